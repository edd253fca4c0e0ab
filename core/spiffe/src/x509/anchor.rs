//! Trust anchors: authorities made ready once, when a bundle is installed, for every later handshake.

use rustls_pki_types::CertificateDer;

use super::{Certificate, CertificateError, constraints::Constraints, profile::Profile, signature::Key};

/// An authority whose certificate has passed every rule that does not depend on the time.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    subject: Box<[u8]>,
    key_algorithm: Box<[u8]>,
    key_bits: Box<[u8]>,
    key_id: Option<Box<[u8]>>,
    path_len: Option<u32>,
    constraints: Option<Constraints>,
    validity: Validity,
}

/// Whoever may have issued a certificate: an anchor, or an intermediate certificate's subject.
#[derive(Clone, Copy)]
pub(super) struct Authority<'a> {
    pub(super) subject: &'a [u8],
    pub(super) key: Key<'a>,
    pub(super) key_id: Option<&'a [u8]>,
    pub(super) path_len: Option<u32>,
    pub(super) constraints: Option<&'a Constraints>,
    pub(super) validity: Validity,
}

/// First and last second of validity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity(i64, i64);

impl Validity {
    pub(super) fn of(certificate: &Certificate<'_>) -> Self {
        Self(certificate.not_before().unix_seconds(), certificate.not_after().unix_seconds())
    }

    pub(super) fn holds(self, second: i64) -> bool {
        (self.0..=self.1).contains(&second)
    }
}

impl Anchor {
    /// Checks an authority's certificate and keeps what later verifications need of it.
    pub(crate) fn new(der: &CertificateDer<'_>, profile: Profile) -> Result<Self, CertificateError> {
        let certificate = Certificate::parse(der)?;
        profile.check_anchor(&certificate)?;
        webpki::anchor_from_trusted_cert(der).map_err(|_| CertificateError::Form)?; // the second parser
        let Authority { subject, key, key_id, path_len, constraints, validity } = Authority::of(&certificate);
        Ok(Self {
            subject: subject.into(),
            key_algorithm: key.algorithm.into(),
            key_bits: key.bits.into(),
            key_id: key_id.map(Into::into),
            path_len,
            constraints: constraints.cloned(),
            validity,
        })
    }

    pub(super) fn authority(&self) -> Authority<'_> {
        Authority {
            subject: &self.subject,
            key: Key { algorithm: &self.key_algorithm, bits: &self.key_bits },
            key_id: self.key_id.as_deref(),
            path_len: self.path_len,
            constraints: self.constraints.as_ref(),
            validity: self.validity,
        }
    }
}

impl<'a> Authority<'a> {
    pub(super) fn of(certificate: &'a Certificate<'_>) -> Self {
        Self {
            subject: certificate.subject().as_raw(),
            key: certificate.key(),
            key_id: certificate.subject_key_id,
            path_len: certificate.basic_constraints.as_ref().and_then(|it| it.value.path_len_constraint),
            constraints: certificate.name_constraints.as_ref().map(|it| &it.value),
            validity: Validity::of(certificate),
        }
    }
}
