//! Certificates for tests: right by default, wrong where a test says so.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;

use crate::{Bundle, Bundles, PrivateKey, Timestamp};

/// The present of every test.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_seconds(1_900_000_000);
/// How long before and after [`NOW`] certificates are valid.
pub(crate) const HOUR: i64 = 3600;

/// An authority with its key.
pub(crate) struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) der: CertificateDer<'static>,
}

/// A leaf with its key.
pub(crate) struct Leaf {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: PrivateKey,
}

impl Authority {
    /// A self-signed authority with this name.
    pub(crate) fn root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::root_with_key(name, KeyPair::generate().unwrap(), change)
    }

    /// A self-signed authority with this name and key.
    pub(crate) fn root_with_key(
        name: &str,
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let params = authority(name, change);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, der }
    }

    /// An authority under this one.
    pub(crate) fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = (authority(name, change), KeyPair::generate().unwrap());
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        Self { params, key, der }
    }

    /// This authority's own key once more, under another authority.
    pub(crate) fn cross_signed_by(&self, other: &Self) -> CertificateDer<'static> {
        self.params.signed_by(&self.key, &other.issuer()).unwrap().der().clone()
    }

    /// An X509-SVID.
    pub(crate) fn leaf(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = base_params();
        params.subject_alt_names = vec![uri(id)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        Leaf { der, key: PrivateKey::from_pkcs8(key.serialize_der()).unwrap() }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// A URI among the alternative names.
pub(crate) fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// An extension written by hand.
pub(crate) fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// A DER value of fewer than 128 bytes.
pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&[tag, u8::try_from(content.len()).unwrap()], content.as_slice()].concat()
}

/// The bundle of `trust_domain` with these authorities.
pub(crate) fn bundle(trust_domain: &str, authorities: &[&CertificateDer<'static>]) -> Bundle {
    let x509_authorities = authorities.iter().map(|der| (*der).clone()).collect();
    Bundle { x509_authorities, ..Bundle::empty(trust_domain.parse().unwrap()) }
}

/// Only the bundle of `trust_domain`, with these authorities.
pub(crate) fn bundles(trust_domain: &str, authorities: &[&CertificateDer<'static>]) -> Bundles {
    [bundle(trust_domain, authorities)].into_iter().collect()
}

fn authority(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = base_params();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    params
}

fn base_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = moment(-HOUR);
    params.not_after = moment(HOUR);
    params.use_authority_key_identifier_extension = true;
    params
}

/// The moment that many seconds after [`NOW`].
pub(crate) fn moment(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(NOW.unix_seconds() + seconds).unwrap()
}
