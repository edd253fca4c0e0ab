//! Self-signed authorities.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, KeyIdMethod,
    KeyUsagePurpose, SanType,
};
use registry::{
    decide::authority::NewAuthority,
    objects::{Kind, authority::Der},
};
use spiffe::{Timestamp, TrustDomain};

use super::{
    IssueError,
    issue::{backdated, date, random_serial},
    keys::AuthorityKey,
};

/// The certificate of a new root of `trust_domain`, in the profile that SPIRE's roots have.
pub(super) fn self_signed(
    trust_domain: &TrustDomain,
    key: &AuthorityKey,
    ttl: Duration,
    now: Timestamp,
) -> Result<NewAuthority, IssueError> {
    let (not_before, not_after) = (backdated(now), now + ttl);
    let (serial, shown) = random_serial()?;
    let mut params = CertificateParams::default();
    params.not_before = date(not_before)?;
    params.not_after = date(not_after)?;
    params.serial_number = Some(serial);
    params.distinguished_name = subject(trust_domain, &shown)?;
    params.subject_alt_names = vec![SanType::URI(trust_domain.id().as_str().try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.key_identifier().to_vec());
    let certificate = params.self_signed(key)?;
    Ok(NewAuthority {
        id: key.id().clone(),
        kind: Kind::X509 { chain: vec![Der(certificate.der().to_vec().into())] },
        not_before,
        not_after,
    })
}

/// Roots of one trust domain differ by the subject's serial number, so that path building by name
/// finds the right one.
fn subject(trust_domain: &TrustDomain, serial: &str) -> Result<DistinguishedName, IssueError> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Writ");
    if trust_domain.as_str().len() <= super::issue::MAX_COMMON_NAME {
        subject.push(DnType::CommonName, trust_domain.as_str());
    }
    subject.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), DnValue::PrintableString(serial.try_into()?));
    Ok(subject)
}

/// id-at-serialNumber
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
