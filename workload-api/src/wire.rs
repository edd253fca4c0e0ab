//! How answers look on the wire. Nothing outside this file knows the generated messages.

use bytes::{BufMut as _, Bytes};
use prost::Message;
use proto::{
    workload::{X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse},
    writ::explain::v1::{ExplainRequest, ExplainResponse},
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::{Svids, grpc::MESSAGE_HEADER_BYTES};

/// The answer to FetchX509SVID, framed. It holds private keys, so it is wiped when its last user drops it.
pub(crate) fn x509_svid_response(svids: &Svids) -> Bytes {
    let bundle_of = |td: &spiffe::TrustDomain| svids.bundles.get(td).cloned().unwrap_or_default();
    let own = |td: &spiffe::TrustDomain| svids.identities.iter().any(|identity| identity.svid.id.is_in(td));
    let response = X509svidResponse {
        svids: svids
            .identities
            .iter()
            .map(|identity| X509svid {
                spiffe_id: identity.svid.id.to_string(),
                x509_svid: concatenated(&identity.svid.chain),
                x509_svid_key: Bytes::from_owner(Zeroizing::new(identity.svid.key.pkcs8().to_vec())),
                bundle: bundle_of(&identity.svid.id.trust_domain()),
                hint: identity.hint.clone(),
            })
            .collect(),
        crl: Vec::new(),
        federated_bundles: svids
            .bundles
            .iter()
            .filter(|(td, _)| !own(td))
            .map(|(td, authorities)| (td.id().to_string(), authorities.clone()))
            .collect(),
    };
    framed(&response)
}

/// The answer to FetchX509Bundles, framed.
pub(crate) fn x509_bundles_response(svids: &Svids) -> Bytes {
    let bundles =
        svids.bundles.iter().map(|(td, authorities)| (td.id().to_string(), authorities.clone())).collect();
    framed(&X509BundlesResponse { crl: Vec::new(), bundles })
}

/// The answer to Explain, framed.
pub(crate) fn explain_response(json: Vec<u8>) -> Bytes {
    framed(&ExplainResponse { json: json.into() })
}

/// Whether this is the message of FetchX509SVID or FetchX509Bundles, which have no fields.
pub(crate) fn is_empty_request(message: &[u8]) -> bool {
    X509svidRequest::decode(message).is_ok()
}

/// The process that an Explain asks about; 0 is the caller itself.
pub(crate) fn explain_request(message: &[u8]) -> Option<i32> {
    ExplainRequest::decode(message).ok().map(|request| request.pid)
}

/// A message as gRPC frames it: not compressed, its length, its bytes.
fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = Zeroizing::new(Vec::with_capacity(MESSAGE_HEADER_BYTES + length));
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("an answer is far shorter than 4 GiB"));
    message.encode_raw(&mut *bytes);
    Bytes::from_owner(bytes)
}

/// The Workload API wants a chain as one byte string.
fn concatenated(chain: &[CertificateDer<'_>]) -> Bytes {
    chain.iter().flat_map(|certificate| certificate.iter().copied()).collect()
}
