//! X.509-SVIDs with their chains and authorities, good and not quite.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, SerialNumber,
};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Question, base64};

/// A leaf under none to two intermediate authorities and a root of `acme.example`.
pub(super) fn question(random: &mut StdRng, now: i64) -> Question {
    let mut changes = Changes::new(random);
    let root = Authority::new(random, "root", now, None, changes.of_root);
    let mut issuers = vec![root];
    for level in 0..changes.intermediates {
        let change = if level == 0 { changes.of_intermediate } else { None };
        let issuer = Authority::new(random, &format!("level {level}"), now, issuers.last(), change);
        issuers.push(issuer);
    }
    let mut params = leaf(now);
    for change in changes.of_leaf {
        change_leaf(random, &mut params, change, now);
    }
    let signer = match changes.of_chain {
        Some(Chain::SignedByAnother) => &Authority::new(random, "root", now, None, None),
        _ => issuers.last().expect("a root"),
    };
    let key = KeyPair::generate().expect("randomness");
    let leaf = params.signed_by(&key, &signer.issuer()).expect("it can be signed").der().to_vec();
    let mut ders: Vec<Vec<u8>> = issuers.iter().skip(1).rev().map(|issuer| issuer.der.clone()).collect();
    ders.insert(0, leaf);
    let mut roots = vec![issuers[0].der.clone()];
    let mut domain = "acme.example";
    match changes.of_chain.take() {
        Some(Chain::Shuffled) => ders[1..].shuffle(random),
        Some(Chain::Incomplete) => ders.truncate(1),
        Some(Chain::WithRoot) => ders.push(roots[0].clone()),
        Some(Chain::WithStranger) => ders.push(Authority::new(random, "stranger", now, None, None).der),
        Some(Chain::Doubled) => ders.push(ders[0].clone()),
        Some(Chain::Long) => ders.extend((0..9).map(|_| roots[0].clone())),
        Some(Chain::Empty) => ders.clear(),
        Some(Chain::OtherDomain) => domain = "other.example",
        Some(Chain::NoRoots) => roots.clear(),
        // A root that cannot be used is named as the reason only where it is the only one.
        Some(Chain::TwoRoots) if changes.of_root.is_none() => {
            roots.insert(0, Authority::new(random, "root", now, None, None).der)
        }
        Some(Chain::Damaged) => {
            let which = random.random_range(0..ders.len());
            damage(random, &mut ders[which]);
        }
        Some(Chain::DamagedRoot) => damage(random, &mut roots[0]),
        Some(Chain::LeafAsRoot) => roots = vec![ders[0].clone()],
        Some(Chain::TwoRoots | Chain::SignedByAnother) | None => {}
    }
    let encode = |ders: &[Vec<u8>]| ders.iter().map(|der| base64(der)).collect::<Vec<_>>();
    let input =
        json!({ "chain_der_b64": encode(&ders), "bundles": { domain: encode(&roots) }, "now": rfc3339(now) });
    Question { op: "x509svid_verify", input }
}

/// A root with the coordinates of its P-256 key.
pub(super) fn authority_with_point(random: &mut StdRng) -> (Vec<u8>, String, String) {
    let authority = Authority::new(random, "root", 1_800_000_000, None, None);
    let (x, y) = authority.key.public_key_raw()[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    (authority.der, x, y)
}

pub(super) fn rfc3339(seconds: i64) -> String {
    moment(seconds).format(&Rfc3339).expect("a year of four digits")
}

/// What is not as usual: mostly one thing, sometimes two, sometimes nothing.
struct Changes {
    intermediates: usize,
    of_leaf: Vec<Leaf>,
    of_intermediate: Option<Ca>,
    of_root: Option<Ca>,
    of_chain: Option<Chain>,
}

impl Changes {
    fn new(random: &mut StdRng) -> Self {
        let mut changes = Self {
            intermediates: random.random_range(0..=2),
            of_leaf: Vec::new(),
            of_intermediate: None,
            of_root: None,
            of_chain: None,
        };
        for _ in 0..random.random_range(0..=2) {
            match random.random_range(0..8) {
                0..=3 => changes.of_leaf.push(*LEAF.choose(random).expect("some")),
                4 => changes.of_intermediate = CA.choose(random).copied(),
                5 => changes.of_root = CA.choose(random).copied(),
                _ => changes.of_chain = CHAIN.choose(random).copied(),
            }
        }
        changes
    }
}

#[derive(Clone, Copy)]
enum Leaf {
    Uris(&'static [&'static str]),
    Ca,
    NoBasicConstraints,
    Usages(&'static [KeyUsagePurpose]),
    UsageNotCritical,
    Purposes(&'static [ExtendedKeyUsagePurpose]),
    Ended,
    NotBegun,
    Named,
    Dns(&'static str),
    UnknownExtension(bool),
    Serial(&'static [u8]),
}

#[derive(Clone, Copy)]
enum Ca {
    WithoutFlag,
    NoCertSign,
    NoUsages,
    PathLength(u8),
    Ended,
    Uri(&'static str),
    Permits(&'static str),
    Excludes(&'static str),
    PermitsUri(&'static str),
    UnknownExtension,
    Purposes(&'static [ExtendedKeyUsagePurpose]),
}

#[derive(Clone, Copy)]
enum Chain {
    Shuffled,
    Incomplete,
    WithRoot,
    WithStranger,
    Doubled,
    Long,
    Empty,
    OtherDomain,
    NoRoots,
    TwoRoots,
    Damaged,
    DamagedRoot,
    LeafAsRoot,
    SignedByAnother,
}

use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign, KeyEncipherment};

const LEAF: &[Leaf] = &[
    Leaf::Uris(&[]),
    Leaf::Uris(&["spiffe://acme.example/web", "spiffe://acme.example/db"]),
    Leaf::Uris(&["spiffe://acme.example/web", "https://acme.example"]),
    Leaf::Uris(&["https://acme.example/web"]),
    Leaf::Uris(&["spiffe://acme.example"]),
    Leaf::Uris(&["spiffe://acme.example/"]),
    Leaf::Uris(&["spiffe://acme.example/a/../b"]),
    Leaf::Uris(&["spiffe://acme.example/%61"]),
    Leaf::Uris(&["spiffe://ACME.example/web"]),
    Leaf::Uris(&["SPIFFE://acme.example/web"]),
    Leaf::Uris(&["spiffe://acme.example/web?a=b"]),
    Leaf::Uris(&["spiffe://acme.example/web#a"]),
    Leaf::Uris(&["spiffe://acme.example:80/web"]),
    Leaf::Uris(&["spiffe://user@acme.example/web"]),
    Leaf::Uris(&["spiffe://other.example/web"]),
    Leaf::Ca,
    Leaf::NoBasicConstraints,
    Leaf::Usages(&[]),
    Leaf::Usages(&[KeyEncipherment]),
    Leaf::Usages(&[DigitalSignature, KeyEncipherment, KeyAgreement]),
    Leaf::Usages(&[DigitalSignature, KeyCertSign]),
    Leaf::Usages(&[DigitalSignature, CrlSign]),
    Leaf::UsageNotCritical,
    Leaf::Purposes(&[]),
    Leaf::Purposes(&[ServerAuth]),
    Leaf::Purposes(&[ClientAuth]),
    Leaf::Purposes(&[CodeSigning]),
    Leaf::Purposes(&[Any]),
    Leaf::Purposes(&[ServerAuth, ClientAuth, CodeSigning]),
    Leaf::Ended,
    Leaf::NotBegun,
    Leaf::Named,
    Leaf::Dns("web.acme.example"),
    Leaf::Dns("web.other.example"),
    Leaf::UnknownExtension(true),
    Leaf::UnknownExtension(false),
    Leaf::Serial(&[0]),
    Leaf::Serial(&[0x7f; 20]),
    Leaf::Serial(&[0x7f; 21]),
];
const CA: &[Ca] = &[
    Ca::WithoutFlag,
    Ca::NoCertSign,
    Ca::NoUsages,
    Ca::PathLength(0),
    Ca::PathLength(1),
    Ca::Ended,
    Ca::Uri("spiffe://acme.example"),
    Ca::Uri("spiffe://acme.example/ca"),
    Ca::Permits("acme.example"),
    Ca::Excludes("acme.example"),
    Ca::PermitsUri("acme.example"),
    Ca::PermitsUri("other.example"),
    Ca::UnknownExtension,
    Ca::Purposes(&[CodeSigning]),
    Ca::Purposes(&[ServerAuth]),
];
const CHAIN: &[Chain] = &[
    Chain::Shuffled,
    Chain::Incomplete,
    Chain::WithRoot,
    Chain::WithStranger,
    Chain::Doubled,
    Chain::Long,
    Chain::Empty,
    Chain::OtherDomain,
    Chain::NoRoots,
    Chain::TwoRoots,
    Chain::Damaged,
    Chain::Damaged,
    Chain::DamagedRoot,
    Chain::DamagedRoot,
    Chain::LeafAsRoot,
    Chain::SignedByAnother,
];

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
}

impl Authority {
    /// An authority under `above`, or a root.
    fn new(random: &mut StdRng, name: &str, now: i64, above: Option<&Self>, change: Option<Ca>) -> Self {
        let mut params = base(now);
        params.distinguished_name.push(DnType::CommonName, format!("{name} {}", random.random::<u32>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyCertSign, CrlSign];
        if let Some(change) = change {
            change_authority(&mut params, change, now);
        }
        let key = KeyPair::generate().expect("randomness");
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer()),
            None => params.self_signed(&key),
        };
        let der = certificate.expect("it can be signed").der().to_vec();
        Self { params, key, der }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

fn change_authority(params: &mut CertificateParams, change: Ca, now: i64) {
    match change {
        Ca::WithoutFlag => params.is_ca = IsCa::ExplicitNoCa,
        Ca::NoCertSign => params.key_usages = vec![CrlSign],
        Ca::NoUsages => params.key_usages.clear(),
        Ca::PathLength(length) => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length)),
        Ca::Ended => params.not_after = moment(now - 300),
        Ca::Uri(uri) => params.subject_alt_names = vec![self::uri(uri)],
        Ca::Permits(name) => {
            let permitted_subtrees = vec![GeneralSubtree::DnsName(name.to_owned())];
            params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
        }
        Ca::Excludes(name) => {
            let excluded_subtrees = vec![GeneralSubtree::DnsName(name.to_owned())];
            params.name_constraints = Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees });
        }
        Ca::PermitsUri(host) => {
            let name = der(0x86, host.as_bytes()); // [6] uniformResourceIdentifier
            let content = der(0x30, &der(0xa0, &der(0x30, &name)));
            params.custom_extensions.push(extension(&[2, 5, 29, 30], &content, true));
        }
        Ca::UnknownExtension => params.custom_extensions.push(extension(&[1, 2, 3, 4], &[5, 0], true)),
        Ca::Purposes(purposes) => params.extended_key_usages = purposes.to_vec(),
    }
}

fn leaf(now: i64) -> CertificateParams {
    let mut params = base(now);
    params.subject_alt_names = vec![uri("spiffe://acme.example/web")];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![DigitalSignature];
    params.extended_key_usages = vec![ServerAuth, ClientAuth];
    params
}

fn change_leaf(random: &mut StdRng, params: &mut CertificateParams, change: Leaf, now: i64) {
    match change {
        Leaf::Uris(uris) => params.subject_alt_names = uris.iter().map(|it| uri(it)).collect(),
        Leaf::Ca => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Leaf::NoBasicConstraints => params.is_ca = IsCa::NoCa,
        Leaf::Usages(usages) => params.key_usages = usages.to_vec(),
        Leaf::UsageNotCritical => {
            params.key_usages.clear();
            params.custom_extensions.push(extension(&[2, 5, 29, 15], &[3, 2, 7, 0x80], false));
        }
        Leaf::Purposes(purposes) => params.extended_key_usages = purposes.to_vec(),
        Leaf::Ended => params.not_after = moment(now - random.random_range(100..100_000)),
        Leaf::NotBegun => params.not_before = moment(now + random.random_range(100..3_000)),
        Leaf::Named => params.distinguished_name.push(DnType::CommonName, "web"),
        Leaf::Dns(name) => {
            params.subject_alt_names.push(SanType::DnsName(name.try_into().expect("a host's name")));
        }
        Leaf::UnknownExtension(critical) => {
            params.custom_extensions.push(extension(&[1, 2, 3, 4], &[5, 0], critical));
        }
        Leaf::Serial(serial) => params.serial_number = Some(SerialNumber::from_slice(serial)),
    }
}

fn base(now: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = moment(now - 200_000);
    params.not_after = moment(now + 3_600);
    params.use_authority_key_identifier_extension = true;
    params
}

/// Another value for one byte.
fn damage(random: &mut StdRng, der: &mut [u8]) {
    let at = random.random_range(0..der.len());
    der[at] = match random.random_range(0..3) {
        0 => der[at] ^ (1 << random.random_range(0..8)),
        1 => der[at].wrapping_add(1),
        _ => random.random(),
    };
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("ASCII"))
}

fn extension(oid: &[u64], content: &[u8], critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// A DER value of fewer than 128 bytes.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).expect("short")], content].concat()
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).expect("a year of four digits")
}
