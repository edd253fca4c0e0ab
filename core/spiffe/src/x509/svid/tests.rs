//! One test for each clause of the X509-SVID standard that a validator enforces.

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Purpose, IsCa,
    KeyUsagePurpose as Usage, SanType, SerialNumber,
};

use super::{super::path::Obstacle, *};
use crate::test_pki::{Authority, HOUR, NOW, bundle, bundles, der, extension, moment, uri};

const ID: &str = "spiffe://acme.example/web";
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const ALTERNATIVE_NAME: &[u64] = &[2, 5, 29, 17];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

fn root() -> Authority {
    Authority::root("root", |_| {})
}

/// What becomes of a leaf that is right but for `change`.
fn leaf_with(change: impl FnOnce(&mut CertificateParams)) -> Result<SpiffeId, SvidError> {
    let root = root();
    verify(&[root.leaf(ID, change).der], &bundles("acme.example", &[&root.der]), NOW)
}

/// What becomes of a chain whose intermediate authority is right but for `change`.
fn intermediate_with(change: impl FnOnce(&mut CertificateParams)) -> Result<SpiffeId, SvidError> {
    let root = root();
    let intermediate = root.intermediate("intermediate", change);
    verify(
        &[intermediate.leaf(ID, |_| {}).der, intermediate.der],
        &bundles("acme.example", &[&root.der]),
        NOW,
    )
}

/// What becomes of a leaf right under a root that is right but for `change`.
fn root_with(change: impl FnOnce(&mut CertificateParams)) -> Result<SpiffeId, SvidError> {
    let root = Authority::root("root", change);
    verify(&[root.leaf(ID, |_| {}).der], &bundles("acme.example", &[&root.der]), NOW)
}

fn accepted() -> Result<SpiffeId, SvidError> {
    Ok(ID.parse().unwrap())
}

fn no_path(obstacle: Obstacle) -> Result<SpiffeId, SvidError> {
    Err(path::PathError::NoPath(obstacle).into())
}

#[test]
fn an_svid_is_accepted_under_its_trust_domains_authority() {
    assert_eq!(leaf_with(|_| {}), accepted());
    assert_eq!(intermediate_with(|_| {}), accepted());
}

#[test]
fn section_2_one_uri_and_no_other_beside_it() {
    assert_eq!(leaf_with(|leaf| leaf.subject_alt_names.clear()), Err(SvidError::Uris(0)));
    for second in [ID, "spiffe://acme.example/db", "https://acme.example/"] {
        assert_eq!(
            leaf_with(|leaf| leaf.subject_alt_names.push(uri(second))),
            Err(SvidError::Uris(2)),
            "{second}"
        );
    }
}

#[test]
fn section_2_other_kinds_of_names_are_welcome() {
    let names = |leaf: &mut CertificateParams| {
        leaf.subject_alt_names.insert(0, SanType::DnsName("web.acme.example".try_into().unwrap()));
        leaf.subject_alt_names.push(SanType::DnsName("web_1".try_into().unwrap()));
        leaf.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
    };
    assert_eq!(leaf_with(names), accepted());
}

#[test]
fn section_5_2_the_uri_is_a_spiffe_id_with_a_path() {
    let named = |id: &str| leaf_with(|leaf| leaf.subject_alt_names = vec![uri(id)]);
    assert_eq!(
        named("spiffe://acme.example"),
        Err(SvidError::NoPath("spiffe://acme.example".parse().unwrap()))
    );
    for id in [
        "https://acme.example/web",
        "spiffe://acme.example/",
        "SPIFFE://acme.example/web",
        "spiffe://Acme/web",
    ] {
        assert!(matches!(named(id), Err(SvidError::Id(_))), "{id}");
    }
}

#[test]
fn section_3_1_without_a_subject_the_names_are_critical() {
    let names = der(0x30, &[&der(0x86, &[ID.as_bytes()])]);
    let lax = |leaf: &mut CertificateParams| {
        leaf.subject_alt_names.clear();
        leaf.custom_extensions.push(extension(ALTERNATIVE_NAME, false, &names));
    };
    assert!(matches!(leaf_with(lax), Err(SvidError::Path(_))));
    let named = |leaf: &mut CertificateParams| {
        lax(leaf);
        leaf.distinguished_name.push(DnType::CommonName, "web");
    };
    assert_eq!(leaf_with(named), accepted());
}

#[test]
fn section_4_1_an_authority_authenticates_nobody() {
    let authority = |leaf: &mut CertificateParams| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(leaf_with(authority), Err(SvidError::Authority));
    assert_eq!(leaf_with(|leaf| leaf.is_ca = IsCa::NoCa), accepted(), "basic constraints may be absent");
}

#[test]
fn section_4_3_a_leafs_key_usage_is_there_critical_and_for_signatures_only() {
    let usages = |usages: &[Usage]| leaf_with(|leaf| leaf.key_usages = usages.to_vec());
    assert_eq!(usages(&[]), Err(SvidError::KeyUsage("is missing")));
    assert_eq!(usages(&[Usage::KeyAgreement]), Err(SvidError::KeyUsage("lacks digitalSignature")));
    assert_eq!(usages(&[Usage::DigitalSignature, Usage::KeyEncipherment, Usage::KeyAgreement]), accepted());
    let signs_certificates = usages(&[Usage::DigitalSignature, Usage::KeyCertSign]);
    assert_eq!(signs_certificates, Err(SvidError::KeyUsage("has keyCertSign")));
    assert_eq!(usages(&[Usage::DigitalSignature, Usage::CrlSign]), Err(SvidError::KeyUsage("has cRLSign")));
    let not_critical = leaf_with(|leaf| {
        leaf.key_usages.clear();
        leaf.custom_extensions.push(extension(KEY_USAGE, false, &[3, 2, 7, 0x80]));
    });
    assert_eq!(not_critical, Err(SvidError::KeyUsage("is not marked critical")));
}

#[test]
fn section_4_4_an_extended_key_usage_names_servers_and_clients() {
    let purposes = |purposes: &[Purpose]| leaf_with(|leaf| leaf.extended_key_usages = purposes.to_vec());
    assert_eq!(purposes(&[]), accepted());
    assert_eq!(purposes(&[Purpose::ClientAuth, Purpose::CodeSigning, Purpose::ServerAuth]), accepted());
    for lacking in
        [&[Purpose::ServerAuth][..], &[Purpose::ClientAuth], &[Purpose::Any], &[Purpose::CodeSigning]]
    {
        assert_eq!(purposes(lacking), Err(SvidError::ExtendedKeyUsage), "{lacking:?}");
    }
}

#[test]
fn section_3_2_whoever_vouches_is_an_authority_that_may_sign_certificates() {
    assert_eq!(intermediate_with(|it| it.key_usages.push(Usage::DigitalSignature)), accepted());
    for (n, refused) in [
        intermediate_with(|it| it.is_ca = IsCa::ExplicitNoCa),
        intermediate_with(|it| it.is_ca = IsCa::NoCa),
        intermediate_with(|it| it.key_usages = vec![Usage::CrlSign]),
        intermediate_with(|it| it.key_usages.clear()),
        intermediate_with(|it| it.extended_key_usages = vec![Purpose::CodeSigning]),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(
            matches!(refused, Err(SvidError::Path(path::PathError::NoPath(Obstacle::Issuer(_))))),
            "{n}: {refused:?}"
        );
    }
    for (n, refused) in [
        root_with(|it| it.is_ca = IsCa::ExplicitNoCa),
        root_with(|it| it.is_ca = IsCa::NoCa),
        root_with(|it| it.key_usages = vec![Usage::CrlSign]),
        root_with(|it| it.custom_extensions.push(extension(&[1, 2, 3, 4], true, &[5, 0]))),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(
            matches!(refused, Err(SvidError::Path(path::PathError::NoAuthority(Some(_))))),
            "{n}: {refused:?}"
        );
    }
}

#[test]
fn section_3_2_an_authoritys_spiffe_id_has_no_path() {
    let named = |id: &'static str| intermediate_with(move |it| it.subject_alt_names = vec![uri(id)]);
    for id in [
        "spiffe://acme.example",
        "spiffe://acme.example/",
        "spiffe://other.example",
        "https://ca.acme.example/x",
    ] {
        assert_eq!(named(id), accepted(), "{id}");
    }
    for id in ["spiffe://acme.example/ca", "spiffe://acme.example//", "spiffe://", "spiffe://Acme.example"] {
        assert!(named(id).is_err(), "{id}");
    }
    assert!(
        intermediate_with(|it| it.subject_alt_names = vec![uri("spiffe://a"), uri("spiffe://b")]).is_err()
    );
}

#[test]
fn an_svid_signed_by_another_workload_is_refused() {
    let workload = |it: &mut CertificateParams| {
        it.is_ca = IsCa::ExplicitNoCa;
        it.subject_alt_names = vec![uri("spiffe://acme.example/db")];
        it.key_usages = vec![Usage::DigitalSignature];
    };
    assert!(intermediate_with(workload).is_err());
    // Each of the three things that keep it from vouching does so by itself.
    type Change = fn(&mut CertificateParams);
    let alone: [(&str, Change); 3] = [
        ("it vouches for others, but is no certificate authority's", |it| it.is_ca = IsCa::ExplicitNoCa),
        ("its key usage lacks keyCertSign", |it| it.key_usages = vec![Usage::DigitalSignature]),
        ("its SPIFFE ID is not a trust domain's", |it| {
            it.subject_alt_names = vec![uri("spiffe://acme.example/db")];
        }),
    ];
    for (says, change) in alone {
        let refused = no_path(Obstacle::Issuer(CertificateError::Rule(says)));
        assert_eq!(intermediate_with(change), refused, "{says}");
    }
}

#[test]
fn only_the_bundle_of_the_leafs_own_trust_domain_counts() {
    let (acme, other) = (root(), Authority::root("other root", |_| {}));
    let chain = [other.leaf(ID, |_| {}).der];
    let all =
        [bundle("acme.example", &[&acme.der]), bundle("other.example", &[&other.der])].into_iter().collect();
    assert_eq!(verify(&chain, &all, NOW), no_path(Obstacle::UnknownIssuer));
    let foreign = bundles("other.example", &[&other.der]);
    assert_eq!(
        verify(&chain, &foreign, NOW),
        Err(SvidError::UnknownTrustDomain("acme.example".parse().unwrap()))
    );
    let revoked = bundles("acme.example", &[]);
    assert_eq!(verify(&chain, &revoked, NOW), Err(path::PathError::NoAuthority(None).into()));
}

#[test]
fn validity_counts_in_whole_seconds_for_everyone_in_the_chain() {
    let at = |seconds: i64, millis: i64| {
        let root = root();
        let now = Timestamp::from_unix_millis((NOW.unix_seconds() + seconds) * 1000 + millis);
        verify(&[root.leaf(ID, |_| {}).der], &bundles("acme.example", &[&root.der]), now)
    };
    assert_eq!(at(-HOUR, 0), accepted());
    assert_eq!(at(HOUR, 999), accepted());
    assert_eq!(at(-HOUR - 1, 999), no_path(Obstacle::Validity));
    assert_eq!(at(HOUR + 1, 0), no_path(Obstacle::Validity));
    let ended = |it: &mut CertificateParams| it.not_after = moment(-1);
    assert_eq!(intermediate_with(ended), no_path(Obstacle::Validity));
    assert_eq!(root_with(ended), no_path(Obstacle::Validity));
}

#[test]
fn serial_numbers_are_positive_and_at_most_20_bytes_long() {
    for serial in [vec![0], vec![0x7f; 21]] {
        let refused = leaf_with(|leaf| leaf.serial_number = Some(SerialNumber::from(serial)));
        assert!(matches!(refused, Err(SvidError::Path(path::PathError::Certificate(0, _)))), "{refused:?}");
    }
    assert_eq!(
        root_with(|it| it.serial_number = Some(SerialNumber::from(vec![0]))),
        accepted(),
        "real roots have 0"
    );
}

#[test]
fn a_chain_may_be_in_any_order_and_hold_more_than_its_path() {
    let (root, stranger) = (root(), Authority::root("stranger", |_| {}));
    let upper = root.intermediate("upper", |_| {});
    let lower = upper.intermediate("lower", |_| {});
    let chain = [lower.leaf(ID, |_| {}).der, upper.der, stranger.der, root.der.clone(), lower.der];
    assert_eq!(verify(&chain, &bundles("acme.example", &[&root.der]), NOW), accepted());
}

#[test]
fn of_two_authorities_with_one_name_the_one_that_signed_is_found() {
    let (before, after) = (root(), root());
    let both = bundles("acme.example", &[&before.der, &after.der]);
    assert_eq!(verify(&[before.leaf(ID, |_| {}).der], &both, NOW), accepted());
    assert_eq!(verify(&[after.leaf(ID, |_| {}).der], &both, NOW), accepted());
    assert_eq!(verify(&[root().leaf(ID, |_| {}).der], &both, NOW), no_path(Obstacle::Signature));
}

#[test]
fn one_bad_authority_in_a_bundle_does_not_spoil_the_others() {
    let (good, bad) = (root(), Authority::root("no authority", |it| it.is_ca = IsCa::NoCa));
    let garbage = rustls_pki_types::CertificateDer::from(vec![0x30, 0x00]);
    let bundles = bundles("acme.example", &[&garbage, &bad.der, &good.der]);
    assert_eq!(verify(&[good.leaf(ID, |_| {}).der], &bundles, NOW), accepted());
}

#[test]
fn a_path_length_is_kept() {
    let no_more = |it: &mut CertificateParams| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    assert_eq!(intermediate_with(no_more), accepted());
    let root = root();
    let upper = root.intermediate("upper", no_more);
    let lower = upper.intermediate("lower", |_| {});
    let chain = [lower.leaf(ID, |_| {}).der, lower.der, upper.der];
    assert_eq!(verify(&chain, &bundles("acme.example", &[&root.der]), NOW), no_path(Obstacle::PathLength));
}

#[test]
fn section_4_2_uri_name_constraints_confine_an_authority() {
    let confined = |permitted: bool, host: &str| {
        let subtrees =
            der(if permitted { 0xa0 } else { 0xa1 }, &[&der(0x30, &[&der(0x86, &[host.as_bytes()])])]);
        intermediate_with(|it| {
            it.custom_extensions.push(extension(NAME_CONSTRAINTS, true, &der(0x30, &[&subtrees])))
        })
    };
    assert_eq!(confined(true, "acme.example"), accepted());
    assert_eq!(confined(true, ".example"), accepted());
    assert_eq!(confined(false, "other.example"), accepted());
    for (permitted, host) in [
        (true, "other.example"),
        (true, "example"),
        (true, ".acme.example"),
        (false, "acme.example"),
        (false, ".example"),
    ] {
        assert_eq!(confined(permitted, host), no_path(Obstacle::NameConstraints), "{permitted} {host}");
    }
}

#[test]
fn more_certificates_than_eight_are_not_looked_at() {
    let root = root();
    let mut chain = vec![root.leaf(ID, |_| {}).der];
    chain.resize(path::MAX_CHAIN, root.der.clone());
    let bundles = bundles("acme.example", &[&root.der]);
    assert_eq!(verify(&chain, &bundles, NOW), accepted());
    chain.push(root.der.clone());
    assert_eq!(verify(&chain, &bundles, NOW), Err(path::PathError::TooMany(9, 8).into()));
    assert_eq!(verify(&[], &bundles, NOW), Err(path::PathError::Empty.into()));
    let bulk = [chain[0].clone(), CertificateDer::from(vec![0; path::MAX_CHAIN_BYTES])];
    assert!(matches!(verify(&bulk, &bundles, NOW), Err(SvidError::Path(path::PathError::TooLong(_)))));
}

#[test]
fn a_certificate_with_more_extensions_than_anyone_needs_is_not_looked_into() {
    let extend = |leaf: &mut CertificateParams| {
        leaf.custom_extensions.extend((0..64).map(|n| extension(&[1, 2, 3, n], false, &[5, 0])));
    };
    assert!(matches!(leaf_with(extend), Err(SvidError::Certificate(CertificateError::Extensions(_)))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Verified is what is used: no byte of a leaf is outside of what the check covers.
    #[test]
    fn no_changed_bit_of_a_leaf_goes_unnoticed(place: prop::sample::Index, bit in 0_u8..8) {
        thread_local!(static SVID: (Authority, Vec<u8>) = {
            let root = root();
            let leaf = root.leaf(ID, |_| {}).der.to_vec();
            (root, leaf)
        });
        SVID.with(|(root, leaf)| {
            let mut leaf = leaf.clone();
            let place = place.index(leaf.len());
            leaf[place] ^= 1 << bit;
            let bundles = bundles("acme.example", &[&root.der]);
            prop_assert!(verify(&[CertificateDer::from(leaf)], &bundles, NOW).is_err());
            Ok(())
        })?;
    }

    /// Foreign bytes never panic, however close to a certificate they are.
    #[test]
    fn no_bytes_make_verification_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut: prop::sample::Index,
        extra in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        thread_local!(static SVID: (Authority, Vec<u8>) = {
            let root = root();
            let leaf = root.leaf(ID, |leaf| leaf.subject_alt_names.push(uri("https://x"))).der.to_vec();
            (root, leaf)
        });
        SVID.with(|(root, leaf)| {
            let mut bytes = leaf.clone();
            for (place, byte) in edits {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(cut.index(leaf.len() + 1).max(leaf.len() / 2));
            bytes.extend(extra);
            let edited = CertificateDer::from(bytes);
            let good = root.leaf(ID, |_| {}).der;
            let bundles = bundles("acme.example", &[&root.der, &edited]);
            let _ = verify(std::slice::from_ref(&edited), &bundles, NOW);
            let _ = verify(&[good, edited], &bundles, NOW);
        });
    }
}
