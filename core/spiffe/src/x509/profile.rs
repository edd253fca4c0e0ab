//! What a certificate must be like to stand at its place in a path.

use x509_parser::{extensions::GeneralName, public_key::PublicKey, x509::X509Version};

use super::{Certificate, CertificateError};
use crate::SpiffeId;

/// The largest RSA key accepted, in bits: the cost of verifying grows with the square of the size.
pub const MAX_RSA_BITS: usize = 4096;
/// The smallest RSA key accepted, in bits.
const MIN_RSA_BITS: usize = 2048;
/// The longest serial number accepted, in bytes (RFC 5280 section 4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;

/// Whose rules hold beside those of path validation itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Profile {
    /// The X509-SVID standard. Duties that RFC 5280 lays on issuers, and that protect nobody who
    /// validates, are not held against anyone.
    Svid,
    /// A public key infrastructure of somebody else's, of which nothing is known: what validation needs,
    /// and no more.
    External,
    /// RFC 5280 section 4 in full.
    Rfc5280,
}

impl Profile {
    /// A certificate that vouches for nobody.
    pub(super) fn check_leaf(self, leaf: &Certificate<'_>) -> Result<(), CertificateError> {
        check_everywhere(leaf)?;
        check_serial(leaf.serial())?;
        rule(!leaf.is_authority(), "it is a certificate authority's, which authenticates nobody")?;
        rule(
            !may_sign_certificates(leaf),
            "its key usage has keyCertSign, but it is no certificate authority's",
        )?;
        rule(
            leaf.name_constraints.is_none(),
            "it has name constraints, but it is no certificate authority's",
        )?;
        let named = leaf.subject().iter_rdn().next().is_some();
        let critical = leaf.alternative_names.as_ref().is_some_and(|names| names.critical);
        rule(named || critical, "it has no subject, so its alternative names must be critical")?;
        match self {
            Self::Svid | Self::External => Ok(()),
            Self::Rfc5280 => {
                check_issuer_is_identified(leaf)?;
                check_conforming(leaf)
            }
        }
    }

    /// A certificate between leaf and anchor.
    pub(super) fn check_intermediate(self, authority: &Certificate<'_>) -> Result<(), CertificateError> {
        check_serial(authority.serial())?;
        if self == Self::Rfc5280 {
            check_issuer_is_identified(authority)?;
        }
        self.check_anchor(authority)
    }

    /// A certificate that is trusted by itself. Real ones have the serial number zero, which harms nobody.
    pub(super) fn check_anchor(self, authority: &Certificate<'_>) -> Result<(), CertificateError> {
        check_everywhere(authority)?;
        rule(authority.is_authority(), "it vouches for others, but is no certificate authority's")?;
        let usage = authority.key_usage.as_ref();
        rule(usage.is_none() || may_sign_certificates(authority), "its key usage lacks keyCertSign")?;
        match self {
            Self::Svid => check_svid_authority(authority),
            Self::External => Ok(()),
            Self::Rfc5280 => {
                check_conforming(authority)?;
                check_conforming_authority(authority)
            }
        }
    }
}

fn check_everywhere(certificate: &Certificate<'_>) -> Result<(), CertificateError> {
    rule(certificate.version() == X509Version::V3, "it is not of X.509 version 3")?;
    if let Some(extension) = &certificate.unknown_critical {
        return Err(CertificateError::UnknownCritical(extension.clone()));
    }
    rule(certificate.not_before() <= certificate.not_after(), "it ends before it begins")?;
    rule(certificate.key().is_supported(), "its key is of a kind that is not verified here")?;
    if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() {
        let bits = bits(key.modulus);
        rule(
            (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits),
            "its RSA key has less than 2048 or more than 4096 bits",
        )?;
    }
    Ok(())
}

fn check_serial(serial: &[u8]) -> Result<(), CertificateError> {
    let positive =
        serial.first().is_some_and(|byte| byte & 0x80 == 0) && serial.iter().any(|byte| *byte != 0);
    rule(
        positive && serial.len() <= MAX_SERIAL_BYTES,
        "its serial number is not positive, or longer than 20 bytes",
    )
}

/// X509-SVID sections 3.2 and 4.3.
fn check_svid_authority(authority: &Certificate<'_>) -> Result<(), CertificateError> {
    let usage = authority.key_usage.as_ref().ok_or(CertificateError::Rule("its key usage is missing"))?;
    let mut ids = authority.uris().filter(|uri| uri.starts_with("spiffe://"));
    if let Some(id) = ids.next() {
        rule(authority.uris().count() == 1, "it has more than one URI among its names")?;
        rule(usage.critical, "its key usage is not critical")?;
        // The standard's own example ends with the slash of an empty path.
        let id: Result<SpiffeId, _> = id.strip_suffix('/').unwrap_or(id).parse();
        rule(id.is_ok_and(|id| id.path().is_empty()), "its SPIFFE ID is not a trust domain's")?;
    }
    let purposes = authority.extended_key_usage.as_ref();
    let tls = purposes.is_none_or(|purposes| purposes.any || purposes.server_auth || purposes.client_auth);
    rule(tls, "its extended key usage allows neither servers nor clients")
}

/// Section 4.2.1.1; an anchor has no issuer to find, whoever may have signed it across.
fn check_issuer_is_identified(certificate: &Certificate<'_>) -> Result<(), CertificateError> {
    rule(certificate.authority_key_id.is_some(), "its authority key identifier is missing")
}

/// What RFC 5280 section 4 asks of every certificate.
fn check_conforming(certificate: &Certificate<'_>) -> Result<(), CertificateError> {
    rule(certificate.issuer().iter_rdn().next().is_some(), "its issuer has no name")?;
    let names = certificate.names();
    let dns = names.iter().all(|name| !matches!(name, GeneralName::DNSName(name) if !is_host_name(name)));
    rule(dns, "a DNS name of it is not a host name")
}

/// What RFC 5280 section 4 asks of authorities.
fn check_conforming_authority(authority: &Certificate<'_>) -> Result<(), CertificateError> {
    rule(
        authority.basic_constraints.as_ref().is_some_and(|it| it.critical),
        "its basic constraints are not critical",
    )?;
    rule(authority.subject_key_id.is_some(), "its subject key identifier is missing")?;
    rule(authority.subject().iter_rdn().next().is_some(), "its subject has no name")?;
    if let Some(constraints) = &authority.name_constraints {
        rule(constraints.critical, "its name constraints are not critical")?;
        rule(constraints.value.is_conforming(), "a DNS name of its name constraints is not a host name")?;
    }
    rule(!authority.has_policy_constraints, "its policy constraints are not critical")
}

fn may_sign_certificates(certificate: &Certificate<'_>) -> bool {
    certificate.key_usage.as_ref().is_some_and(|usage| usage.value.key_cert_sign())
}

/// The preferred name syntax of RFC 1034 with at most one asterisk, for the first label.
fn is_host_name(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        let allowed = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && allowed && !label.starts_with('-') && !label.ends_with('-')
    };
    let ends_like_an_address =
        labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels.len() <= 253 && labels.split('.').all(label) && !ends_like_an_address
}

fn bits(number: &[u8]) -> usize {
    let leading = number.iter().take_while(|byte| **byte == 0).count();
    let significant = &number[leading..];
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

fn rule(holds: bool, broken: &'static str) -> Result<(), CertificateError> {
    if holds { Ok(()) } else { Err(CertificateError::Rule(broken)) }
}
