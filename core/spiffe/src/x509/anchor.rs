//! Trust anchors: authorities made ready once, when a bundle is installed, for every later handshake.

use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::{Certificate, CertificateError};
use crate::Timestamp;

/// An authority whose certificate has passed every rule that does not depend on `now`.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    pub(super) trust: TrustAnchor<'static>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Anchor {
    /// Checks and takes over an authority's certificate.
    pub(crate) fn new(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let certificate = Certificate::parse(der)?;
        certificate.check_issuer()?;
        let trust = webpki::anchor_from_trusted_cert(der).map_err(|_| CertificateError::Form)?;
        Ok(Self {
            trust: trust.to_owned(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }
}
