//! How answers look on the wire. Nothing outside this file knows the generated messages.

mod claims;
mod launch;
mod tasks;

use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use prost::Message;
use proto::{
    workload::{
        JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
        ValidateJwtsvidResponse, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
    },
    writ::explain::v1::{ExplainRequest, ExplainResponse},
};
use registry::objects::Entry;
use rustls_pki_types::CertificateDer;
use spiffe::{Audiences, Bundle, SpiffeId, audience, jwt};
use zeroize::Zeroizing;

use self::claims::claims;
pub(crate) use self::{
    launch::{launch_event, launch_request},
    tasks::{
        begin_request, begin_response, end_request, end_response, token_request, token_response,
        watch_response,
    },
};
use crate::{Entitled, Svids, grpc::MESSAGE_HEADER_BYTES, refusal::Refusal};

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

/// For whom a caller of FetchJWTSVID wants tokens, and of which identity if not of all.
pub(crate) fn jwt_svid_request(message: &[u8]) -> Result<(Audiences, Option<SpiffeId>), Refusal> {
    let request = JwtsvidRequest::decode(message).map_err(|_| Refusal::Unreadable)?;
    let audiences = Audiences::new(&request.audience)?;
    let wanted = match request.spiffe_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|_| Refusal::NotAnId)?),
    };
    Ok((audiences, wanted))
}

/// The answer to FetchJWTSVID, framed: a token for each of these entries. Whoever holds one is taken for
/// its subject, so it is wiped too.
pub(crate) fn jwt_svid_response(entries: &[Arc<Entry>], tokens: &[Arc<str>]) -> Bytes {
    let svid = |(entry, token): (&Arc<Entry>, &Arc<str>)| Jwtsvid {
        spiffe_id: entry.spiffe_id.to_string(),
        svid: token.to_string(),
        hint: entry.hint.clone(),
    };
    framed(&JwtsvidResponse { svids: entries.iter().zip(tokens).map(svid).collect() })
}

/// The answer to FetchJWTBundles, framed: documents in which only keys for tokens are.
pub(crate) fn jwt_bundles_response(entitled: &Entitled) -> Bytes {
    let document = |bundle: &Bundle| {
        let mut keys = Bundle::empty(bundle.trust_domain.clone());
        keys.jwt_authorities.clone_from(&bundle.jwt_authorities);
        // A bundle whose keys cannot be written was never read: each was parsed from such a document.
        keys.to_document().unwrap_or_else(|_| NO_KEYS.to_vec())
    };
    let bundles = entitled
        .bundles
        .iter()
        .map(|bundle| (bundle.trust_domain.id().to_string(), document(bundle).into()))
        .collect();
    framed(&JwtBundlesResponse { bundles })
}

/// A token to judge, and for whom it has to be.
pub(crate) struct ToJudge {
    pub(crate) audience: String,
    pub(crate) token: String,
}

/// What a caller of ValidateJWTSVID wants judged.
pub(crate) fn validate_jwt_svid_request(message: &[u8]) -> Result<ToJudge, Refusal> {
    let request = ValidateJwtsvidRequest::decode(message).map_err(|_| Refusal::Unreadable)?;
    audience::check(&request.audience)?;
    if request.svid.is_empty() || request.svid.len() > jwt::MAX_TOKEN_BYTES {
        return Err(Refusal::NotAToken);
    }
    Ok(ToJudge { audience: request.audience, token: request.svid })
}

/// The answer to ValidateJWTSVID, framed. What a foreign trust domain's token says beyond the registered
/// claims is not passed on: nobody here has said what it means.
pub(crate) fn validate_jwt_svid_response(valid: jwt::svid::Validated, is_foreign: bool) -> Bytes {
    let spiffe_id = valid.spiffe_id.to_string();
    framed(&ValidateJwtsvidResponse { spiffe_id, claims: Some(claims(valid.claims, is_foreign)) })
}

/// The answer to Explain, framed.
pub(crate) fn explain_response(json: Vec<u8>) -> Bytes {
    framed(&ExplainResponse { json: json.into() })
}

/// Whether this is the message of a method that asks nothing: X509-SVIDs, and bundles of either kind.
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

const NO_KEYS: &[u8] = br#"{"keys":[]}"#;
