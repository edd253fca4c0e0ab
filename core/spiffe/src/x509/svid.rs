//! X509-SVIDs: a chain whose leaf names exactly one workload, verified by the authorities of that
//! workload's own trust domain (X509-SVID standard, section 5).

use rustls_pki_types::CertificateDer;

use super::{Certificate, CertificateError, path, profile::Profile};
use crate::{Bundles, IdError, SpiffeId, Timestamp, TrustDomain};

/// Why a chain is not an X509-SVID that is valid now.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SvidError {
    /// The leaf breaks a rule that holds for every certificate.
    #[error("the leaf: {0}")]
    Certificate(#[from] CertificateError),
    /// Section 2: exactly one URI.
    #[error("the leaf has {0} URIs among its names; an X509-SVID has exactly one")]
    Uris(usize),
    /// The URI is not a SPIFFE ID.
    #[error("the leaf's URI is not a SPIFFE ID: {0}")]
    Id(#[from] IdError),
    /// Section 5.2: a leaf's SPIFFE ID has a path.
    #[error("the leaf's SPIFFE ID {0} has no path, so it names a trust domain and no workload")]
    NoPath(SpiffeId),
    /// Section 4.1: authorities do not authenticate.
    #[error("the leaf is a certificate authority's")]
    Authority,
    /// Section 4.3.
    #[error("the leaf's key usage {0}")]
    KeyUsage(&'static str),
    /// Section 4.4.
    #[error("the leaf's extended key usage lacks server or client authentication")]
    ExtendedKeyUsage,
    /// No bundle of the leaf's trust domain.
    #[error("no trust bundle of {0} is known here")]
    UnknownTrustDomain(TrustDomain),
    /// No path to that bundle.
    #[error(transparent)]
    Path(#[from] path::PathError),
}

/// Verifies a chain, leaf first, and says whom it names.
///
/// Only the bundle of the leaf's own trust domain counts, whoever else is trusted here.
pub fn verify(
    chain: &[CertificateDer<'_>],
    bundles: &Bundles,
    now: Timestamp,
) -> Result<SpiffeId, SvidError> {
    let (leaf_der, intermediates) = chain.split_first().ok_or(path::PathError::Empty)?;
    if chain.len() > path::MAX_CHAIN {
        return Err(path::PathError::TooMany(chain.len(), path::MAX_CHAIN).into());
    }
    let bytes = chain.iter().map(|der| der.len()).sum();
    if bytes > path::MAX_CHAIN_BYTES {
        return Err(path::PathError::TooLong(bytes).into());
    }
    let leaf = Certificate::parse(leaf_der)?;
    let id = leaf_id(&leaf)?;
    let anchors = bundles
        .anchors(id.trust_domain_name())
        .ok_or_else(|| SvidError::UnknownTrustDomain(id.trust_domain()))??;
    let demands = path::Demands { now, purposes: Vec::new(), max_intermediates: None };
    path::find(Profile::Svid, leaf_der, &leaf, intermediates, anchors, &demands)?;
    Ok(id)
}

/// The SPIFFE ID of a leaf that has every property which X509-SVID demands of a leaf. Nobody has
/// vouched for it yet.
pub fn leaf_id(leaf: &Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let mut uris = leaf.uris();
    let id: SpiffeId = match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse()?,
        _ => return Err(SvidError::Uris(leaf.uris().count())),
    };
    if id.path().is_empty() {
        return Err(SvidError::NoPath(id));
    }
    if leaf.is_authority() {
        return Err(SvidError::Authority);
    }
    let usage = leaf.key_usage.as_ref().ok_or(SvidError::KeyUsage("is missing"))?;
    match usage.value {
        _ if !usage.critical => return Err(SvidError::KeyUsage("is not marked critical")),
        bits if !bits.digital_signature() => return Err(SvidError::KeyUsage("lacks digitalSignature")),
        bits if bits.key_cert_sign() => return Err(SvidError::KeyUsage("has keyCertSign")),
        bits if bits.crl_sign() => return Err(SvidError::KeyUsage("has cRLSign")),
        _ => {}
    }
    if leaf.extended_key_usage.as_ref().is_some_and(|usage| !(usage.server_auth && usage.client_auth)) {
        return Err(SvidError::ExtendedKeyUsage);
    }
    Ok(id)
}

#[cfg(test)]
mod tests;
