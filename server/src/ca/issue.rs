//! X509-SVIDs: what a certificate says, and signing it.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use bytes::Bytes;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer as RcgenIssuer,
    KeyIdMethod, SanType, SerialNumber,
};
use registry::objects::{Authority, AuthorityId, Kind, Sha256};
use spiffe::{SpiffeId, Timestamp};
use time::OffsetDateTime;

use super::{IssueError, keys::AuthorityKey, subject_key::SubjectKey};

/// Clocks of verifiers may be this far behind ours.
const BACKDATE: std::time::Duration = std::time::Duration::from_secs(10);
/// RFC 5280, ub-common-name: a longer one is not a valid certificate.
pub(super) const MAX_COMMON_NAME: usize = 64;

/// An authority that signs, with everything about it parsed.
pub(crate) struct Issuer {
    id: AuthorityId,
    not_after: Timestamp,
    /// Certificates between the leaf and the published root.
    intermediates: Vec<Bytes>,
    rcgen: RcgenIssuer<'static, AuthorityKey>,
    random: SystemRandom,
}

/// Who a certificate is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a SpiffeId,
    pub(crate) dns_names: &'a [String],
}

/// A certificate that was signed.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// DER, leaf first, without the root.
    pub(crate) chain: Vec<Bytes>,
    /// Lower-case hex without leading zeros.
    pub(crate) serial: String,
    /// The end of its validity, on a whole second.
    pub(crate) not_after: Timestamp,
}

impl Issuer {
    /// Makes an authority ready to sign.
    pub(super) fn new(authority: &Authority, key: AuthorityKey) -> Result<Self, IssueError> {
        let Kind::X509 { chain } = &authority.kind else { return Err(IssueError::NoCertificate) };
        let (own, _) = chain.split_first().ok_or(IssueError::NoCertificate)?;
        let between = chain.len() - 1; // the last one is the root, which verifiers have
        Ok(Self {
            id: authority.id.clone(),
            not_after: authority.not_after,
            intermediates: chain[..between].iter().map(|certificate| certificate.0.clone()).collect(),
            rcgen: RcgenIssuer::from_ca_cert_der(&own.0.as_ref().into(), key)?,
            random: SystemRandom::new(),
        })
    }

    /// Which authority this is.
    pub(crate) fn id(&self) -> &AuthorityId {
        &self.id
    }

    /// Signs an X509-SVID that is valid from now until `not_after`, or the authority's end.
    pub(crate) fn issue(
        &self,
        subject: Subject<'_>,
        key: &SubjectKey,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Result<Issued, IssueError> {
        let not_after = whole_second(not_after.min(self.not_after));
        if not_after <= now {
            return Err(IssueError::Ended);
        }
        let (serial_number, serial) = serial(&self.random)?;
        let mut params = CertificateParams::default();
        params.not_before = date(backdated(now))?;
        params.not_after = date(not_after)?;
        params.serial_number = Some(serial_number);
        params.distinguished_name = distinguished(subject);
        params.subject_alt_names = names(subject)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = key.usages();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.key_identifier_method = KeyIdMethod::PreSpecified(key.sha256().0[..20].to_vec());
        let leaf = params.signed_by(key, &self.rcgen)?;
        let leaf = Bytes::copy_from_slice(leaf.der());
        let chain = std::iter::once(leaf).chain(self.intermediates.iter().cloned()).collect();
        Ok(Issued { chain, serial, not_after })
    }
}

/// Exactly one URI (X509-SVID standard, section 2), then any DNS names.
fn names(subject: Subject<'_>) -> Result<Vec<SanType>, IssueError> {
    let mut names = vec![SanType::URI(subject.id.as_str().try_into()?)];
    for name in subject.dns_names {
        names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    Ok(names)
}

/// A common name that tells subjects apart, for servers that map certificates to users by it: the first
/// DNS name, else the SPIFFE ID, else (where those are too long for a common name) the ID's SHA-256.
fn distinguished(subject: Subject<'_>) -> DistinguishedName {
    let fits = |text: &&str| text.len() <= MAX_COMMON_NAME;
    let dns_name = subject.dns_names.first().map(String::as_str).filter(fits);
    let mut distinguished = DistinguishedName::new();
    match dns_name.or(Some(subject.id.as_str()).filter(fits)) {
        Some(name) => distinguished.push(DnType::CommonName, name),
        None => {
            distinguished.push(DnType::CommonName, Sha256::of(subject.id.as_str().as_bytes()).to_string())
        }
    }
    distinguished
}

/// A random serial number, and as hex.
pub(super) fn random_serial() -> Result<(SerialNumber, String), IssueError> {
    serial(&SystemRandom::new())
}

fn serial(random: &SystemRandom) -> Result<(SerialNumber, String), IssueError> {
    let mut bytes = [0_u8; 16];
    random.fill(&mut bytes).map_err(|_| IssueError::Randomness)?;
    // Positive and without leading zeros in DER, so that every reader shows it alike; 126 bits are left.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok((SerialNumber::from_slice(&bytes), hex::encode(bytes)))
}

pub(super) fn backdated(now: Timestamp) -> Timestamp {
    whole_second(now.before(BACKDATE))
}

pub(super) fn whole_second(moment: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(moment.unix_seconds())
}

pub(super) fn date(moment: Timestamp) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(moment.unix_seconds()).map_err(|_| IssueError::Date)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use registry::{decide::authority::NewAuthority, objects::Slot};
    use spiffe::{Bundle, Bundles, PrivateKey, TrustDomain, x509::svid};
    use x509_parser::prelude::*;

    use super::*;
    use crate::ca::{
        keys::{KeyStore as _, Memory},
        root::self_signed,
    };

    fn certificate(authority: &Authority) -> &[u8] {
        match &authority.kind {
            Kind::X509 { chain } => &chain[0].0,
            Kind::Jwt { .. } => panic!("{authority:?}"),
        }
    }

    fn authority() -> (Authority, Issuer, Bundles, Timestamp) {
        let now = Timestamp::from_unix_millis(1_795_000_000_500);
        let trust_domain: TrustDomain = "acme.example".parse().unwrap();
        let key = Memory::default().make().unwrap();
        let new = self_signed(&trust_domain, &key, Duration::from_secs(3600), now).unwrap();
        let NewAuthority { id, kind, not_before, not_after } = new;
        let authority = Authority { id, slot: Slot::Active, kind, not_before, not_after };
        let mut bundle = Bundle::empty(trust_domain);
        bundle.x509_authorities = vec![certificate(&authority).to_vec().into()];
        (authority.clone(), Issuer::new(&authority, key).unwrap(), [bundle].into_iter().collect(), now)
    }

    fn subject_key() -> SubjectKey {
        SubjectKey::from_spki(&PrivateKey::generate().unwrap().public_key().unwrap()).unwrap()
    }

    #[test]
    fn an_svid_is_what_a_stranger_accepts_and_says_only_what_it_should() {
        let (_, issuer, bundles, now) = authority();
        let id: SpiffeId = "spiffe://acme.example/agent/triage".parse().unwrap();
        let dns_names = ["triage.acme.example".to_owned()];
        let subject = Subject { id: &id, dns_names: &dns_names };
        let key = subject_key();
        let issued = issuer.issue(subject, &key, now, now + Duration::from_secs(60)).unwrap();
        let chain: Vec<_> = issued.chain.iter().map(|der| der.to_vec().into()).collect();
        assert_eq!(svid::verify(&chain, &bundles, now).unwrap(), id);
        let facts = spiffe::tls::peer_svid(Some(&chain)).unwrap().unwrap();
        assert_eq!((facts.serial, facts.not_after), (issued.serial, issued.not_after));
        assert_eq!(facts.public_key_sha256, key.sha256().to_string());

        let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
        assert_eq!(leaf.subject().to_string(), "CN=triage.acme.example");
        assert_eq!(leaf.validity().not_before.timestamp(), now.unix_seconds() - 10);
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.digital_signature() && usage.value.key_agreement());
        assert!(!usage.value.key_cert_sign());
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 2);
    }

    #[test]
    fn an_svid_never_outlives_its_authority() {
        let (authority, issuer, _, now) = authority();
        let id = "spiffe://acme.example/w".parse().unwrap();
        let subject = Subject { id: &id, dns_names: &[] };
        let later = authority.not_after + Duration::from_secs(1);
        let issued = issuer.issue(subject, &subject_key(), now, later).unwrap();
        assert!(issued.not_after <= authority.not_after);
        let error = issuer.issue(subject, &subject_key(), later, later + Duration::from_secs(9)).unwrap_err();
        assert!(matches!(error, IssueError::Ended));
    }

    #[test]
    fn common_names_tell_subjects_apart_and_are_never_too_long() {
        let name = |id: &str, dns_names: &[String]| {
            let id: SpiffeId = id.parse().unwrap();
            let name = distinguished(Subject { id: &id, dns_names });
            name.iter().map(|(_, value)| format!("{value:?}")).collect::<String>()
        };
        assert!(name("spiffe://acme.example/w", &[]).contains("spiffe://acme.example/w"));
        let long = format!("spiffe://acme.example/{}", "w".repeat(100));
        assert_ne!(name(&long, &[]), name(&format!("{long}x"), &[]));
        assert_eq!(name(&long, &["d".repeat(65)]), name(&long, &[]));
    }

    #[test]
    fn a_root_has_the_profile_of_a_spiffe_authority() {
        let (authority, ..) = authority();
        let (_, root) = X509Certificate::from_der(certificate(&authority)).unwrap();
        assert!(root.is_ca());
        let usage = root.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
        let names = root.subject_alternative_name().unwrap().unwrap();
        assert!(matches!(names.value.general_names[..], [GeneralName::URI("spiffe://acme.example")]));
        assert!(root.subject().to_string().contains("serialNumber"), "{}", root.subject());
    }
}
