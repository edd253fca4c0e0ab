"""An ordinary workload on the published Python package `spiffe`: it follows its X.509 context, fetches
tokens and judges them, and prints one JSON line for each thing that the library tells it."""

import json
import os
import sys
import threading

import jwt
from cryptography.x509 import SubjectKeyIdentifier
from cryptography.x509.verification import PolicyBuilder, Store
from spiffe import JwtSvid, WorkloadApiClient

AUDIENCE = {"db"}
printing = threading.Lock()


def say(**line):
    with printing:
        print(json.dumps(line), flush=True)


def key(certificate):
    """How the server names an authority: by the identifier of its key."""
    return certificate.extensions.get_extension_for_class(SubjectKeyIdentifier).value.digest.hex()


def authorities(svid, bundles):
    return bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain).x509_authorities


def signer(svid, bundles):
    """Which of the authorities vouches for an SVID; an error if none does."""
    verifier = PolicyBuilder().store(Store(list(authorities(svid, bundles)))).build_client_verifier()
    return key(verifier.verify(svid.leaf, svid.cert_chain[1:]).chain[-1])


def context(context):
    svids, bundles = context.x509_svids, context.x509_bundle_set
    try:
        say(
            event="svids",
            ids=[str(svid.spiffe_id) for svid in svids],
            serials=[format(svid.leaf.serial_number, "x") for svid in svids],
            bundles=sorted(bundle.trust_domain.name for bundle in bundles.bundles),
            signers=[signer(svid, bundles) for svid in svids],
            authorities=sorted(key(authority) for svid in svids for authority in authorities(svid, bundles)),
        )
    except Exception as error:
        say(event="bad svids", message=str(error))


def tokens(client, ended):
    last = None
    while not ended.wait(0.1):
        try:
            svid = client.fetch_jwt_svid(AUDIENCE)
            if svid.token == last:
                continue
            last = svid.token
            # By the keys that the agent hands out, and by the agent itself.
            bundle = client.fetch_jwt_bundles().get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
            local = JwtSvid.parse_and_validate(svid.token, bundle, AUDIENCE)
            judged = client.validate_jwt_svid(svid.token, "db")
            assert local.spiffe_id == judged.spiffe_id == svid.spiffe_id
            say(
                event="token",
                id=str(svid.spiffe_id),
                token=svid.token,
                signers=[jwt.get_unverified_header(svid.token)["kid"]],
                authorities=sorted(bundle.jwt_authorities),
            )
        except Exception as error:
            say(event="no token", message=str(error))
            ended.wait(0.4)


def main():
    ended = threading.Event()
    with WorkloadApiClient(os.environ["SPIFFE_ENDPOINT_SOCKET"]) as client:
        client.stream_x509_contexts(context, lambda error: say(event="error", message=str(error)))
        threading.Thread(target=tokens, args=(client, ended), daemon=True).start()
        # It ends with the test that started it: that one holds the other end of standard input.
        sys.stdin.read()
        ended.set()
        os._exit(0)


main()
