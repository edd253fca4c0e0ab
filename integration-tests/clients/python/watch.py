"""An ordinary workload on the published Python package `spiffe`: it follows its X.509 context, fetches
tokens and judges them, and prints one JSON line for each thing that the library tells it."""

import json
import os
import sys
import threading

from spiffe import JwtSvid, WorkloadApiClient

AUDIENCE = {"db"}
printing = threading.Lock()


def say(**line):
    with printing:
        print(json.dumps(line), flush=True)


def context(context):
    say(
        event="svids",
        ids=[str(svid.spiffe_id) for svid in context.x509_svids],
        serials=[format(svid.leaf.serial_number, "x") for svid in context.x509_svids],
        bundles=sorted(bundle.trust_domain.name for bundle in context.x509_bundle_set.bundles),
    )


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
            say(event="token", id=str(svid.spiffe_id), token=svid.token, keys=len(bundle.jwt_authorities))
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
