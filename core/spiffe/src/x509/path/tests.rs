//! RFC 5280 section 6, and webpki as a second judge.

use std::{slice, time::Duration};

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod,
    NameConstraints, SanType,
};
use rustls_pki_types::UnixTime;

use super::*;
use crate::test_pki::{Authority, HOUR, NOW, der, extension, moment};

const ID: &str = "spiffe://acme.example/web";

fn demands() -> Demands {
    Demands { now: NOW, purposes: Vec::new(), max_intermediates: None }
}

fn root() -> Authority {
    Authority::root("root", |_| {})
}

fn judge(leaf: &CertificateDer<'_>, pool: &[&Authority], root: &Authority) -> Result<(), PathError> {
    let pool: Vec<_> = pool.iter().map(|authority| authority.der.clone()).collect();
    validate(leaf, &pool, slice::from_ref(&root.der), &demands())
}

#[test]
fn a_path_is_found_through_any_number_of_authorities_up_to_the_bound() {
    let mut authorities = vec![root()];
    for n in 1..=MAX_CHAIN {
        authorities.push(authorities[n - 1].intermediate(&format!("authority {n}"), |_| {}));
    }
    for below in 0..=MAX_CHAIN {
        let pool: Vec<_> = authorities[1..=below].iter().rev().collect();
        let found = judge(&authorities[below].leaf(ID, |_| {}).der, &pool, &authorities[0]);
        match below {
            MAX_CHAIN => assert_eq!(found, Err(PathError::NoPath(Obstacle::Effort))),
            _ => assert_eq!(found, Ok(()), "{below} between"),
        }
    }
}

#[test]
fn an_expired_way_is_left_for_one_that_is_valid() {
    let (old, new) = (Authority::root("old", |it| it.not_after = moment(-1)), root());
    let middle = old.intermediate("middle", |_| {});
    let pool = [middle.der.clone(), middle.cross_signed_by(&new)];
    let leaf = middle.leaf(ID, |_| {}).der;
    assert_eq!(validate(&leaf, &pool, &[old.der.clone(), new.der], &demands()), Ok(()));
    assert_eq!(validate(&leaf, &pool, &[old.der], &demands()), Err(PathError::NoPath(Obstacle::Validity)));
}

#[test]
fn authorities_that_vouch_for_each_other_lead_nowhere() {
    let (one, two) = (Authority::root("one", |_| {}), Authority::root("two", |_| {}));
    let pool = [one.cross_signed_by(&two), two.cross_signed_by(&one), one.der.clone(), two.der.clone()];
    let found = validate(&one.leaf(ID, |_| {}).der, &pool, &[root().der], &demands());
    assert_eq!(found, Err(PathError::NoPath(Obstacle::UnknownIssuer)));
}

#[test]
fn a_crowd_of_namesakes_costs_a_bounded_number_of_signatures() {
    let root = root();
    // They say that they have its key too, so that everybody is tried, in the pool's order.
    let same_key =
        |it: &mut CertificateParams| it.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]);
    let issuer = root.intermediate("namesake", same_key);
    let leaf = issuer.leaf(ID, |_| {}).der;
    let crowd: Vec<_> = (0..MAX_POOL).map(|_| Authority::root("namesake", same_key)).collect();
    let behind = |others: usize| {
        let pool: Vec<_> = crowd[..others].iter().chain([&issuer]).collect();
        judge(&leaf, &pool, &root)
    };
    // One signature each, then the issuer's and the root's.
    let tried = MAX_SIGNATURES - 2;
    assert_eq!(behind(tried), Ok(()));
    for others in [tried + 1, tried + 2, MAX_POOL - 1] {
        assert!(matches!(behind(others), Err(PathError::NoPath(_))), "behind {others}");
    }
    assert_eq!(behind(MAX_POOL), Err(PathError::TooMany(MAX_POOL + 1, MAX_POOL)));
}

#[test]
fn a_crowd_that_vouches_for_itself_is_searched_in_bounded_time() {
    let root = root();
    let namesakes: Vec<_> = (0..MAX_POOL).map(|_| Authority::root("namesake", |_| {})).collect();
    let pool: Vec<_> = namesakes.iter().map(|it| it.cross_signed_by(&namesakes[0])).collect();
    let started = std::time::Instant::now();
    assert!(
        validate(&namesakes[0].leaf(ID, |_| {}).der, &pool, slice::from_ref(&root.der), &demands()).is_err()
    );
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn self_issued_authorities_do_not_count_against_a_path_length() {
    let root = root();
    let upper = root.intermediate("upper", |it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
    let same = upper.intermediate("upper", |_| {});
    let lower = same.intermediate("lower", |_| {});
    assert_eq!(judge(&lower.leaf(ID, |_| {}).der, &[&upper, &same, &lower], &root), Ok(()));
    let other = upper.intermediate("other", |_| {});
    let lower = other.intermediate("lower", |_| {});
    let too_deep = judge(&lower.leaf(ID, |_| {}).der, &[&upper, &other, &lower], &root);
    assert_eq!(too_deep, Err(PathError::NoPath(Obstacle::PathLength)));
}

#[test]
fn the_callers_bound_counts_the_certificates_between() {
    let root = root();
    let middle = root.intermediate("middle", |_| {});
    let leaf = middle.leaf(ID, |_| {}).der;
    let bounded = |most| {
        let demands = Demands { max_intermediates: Some(most), ..demands() };
        validate(&leaf, slice::from_ref(&middle.der), slice::from_ref(&root.der), &demands)
    };
    assert_eq!(bounded(1), Ok(()));
    assert_eq!(bounded(0), Err(PathError::NoPath(Obstacle::Effort)));
}

#[test]
fn a_purpose_is_demanded_of_leaf_and_authorities_that_limit_theirs() {
    let for_clients =
        |it: &mut CertificateParams| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let root = root();
    let middle = root.intermediate("middle", for_clients);
    let purpose = |leaf: &CertificateDer<'_>, purpose| {
        let demands = Demands { purposes: vec![purpose], ..demands() };
        validate(leaf, slice::from_ref(&middle.der), slice::from_ref(&root.der), &demands)
    };
    let refused = Err(PathError::NoPath(Obstacle::Purpose));
    let both = middle.leaf(ID, |_| {}).der;
    assert_eq!(
        (purpose(&both, Purpose::ClientAuth), purpose(&both, Purpose::ServerAuth)),
        (Ok(()), refused.clone())
    );
    let clients = root.leaf(ID, for_clients).der;
    assert_eq!(
        (purpose(&clients, Purpose::ClientAuth), purpose(&clients, Purpose::ServerAuth)),
        (Ok(()), refused.clone())
    );
    let unlimited = root.leaf(ID, |it| it.extended_key_usages.clear()).der;
    assert_eq!(purpose(&unlimited, Purpose::CodeSigning), Ok(()));
    let none = root.leaf(ID, |it| {
        it.extended_key_usages.clear();
        it.custom_extensions.push(extension(&[2, 5, 29, 37], false, &[0x30, 0]));
    });
    assert!(matches!(
        judge(&none.der, &[], &root),
        Err(PathError::Certificate(0, CertificateError::Extension(_)))
    ));
}

#[test]
fn directory_name_constraints_are_compared_without_regard_to_case_and_spacing() {
    let organisation = |name: &str| {
        let mut named = rcgen::DistinguishedName::new();
        named.push(DnType::OrganizationName, name);
        named
    };
    let under = |permitted: bool, base: &str, name: &str| {
        let subtrees = vec![GeneralSubtree::DirectoryName(organisation(base))];
        let constraints = match permitted {
            true => NameConstraints { permitted_subtrees: subtrees, excluded_subtrees: Vec::new() },
            false => NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: subtrees },
        };
        let root = Authority::root("root", |it| it.name_constraints = Some(constraints));
        let leaf = root.leaf(ID, |it| {
            it.distinguished_name = organisation(name);
            it.distinguished_name.push(DnType::CommonName, "web");
        });
        judge(&leaf.der, &[], &root).is_ok()
    };
    assert!(under(true, "Acme", "ACME"));
    assert!(!under(true, "Acme", "Evil"));
    assert!(under(false, "Acme", "Evil"));
    assert!(!under(false, "Acme Limited", "acme   limited"));
}

#[test]
fn constraints_hold_for_authorities_below_and_not_only_for_the_leaf() {
    let confine = |it: &mut CertificateParams| {
        let subtrees = der(0xa0, &[&der(0x30, &[&der(0x82, &[b"acme.example"])])]);
        it.custom_extensions.push(extension(&[2, 5, 29, 30], true, &der(0x30, &[&subtrees])));
    };
    let named = |name: &'static str| {
        move |it: &mut CertificateParams| {
            it.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()))
        }
    };
    let root = Authority::root("root", confine);
    let inside = root.intermediate("inside", named("ca.acme.example"));
    assert_eq!(judge(&inside.leaf(ID, |_| {}).der, &[&inside], &root), Ok(()));
    let outside = root.intermediate("outside", named("evil.example"));
    let refused = judge(&outside.leaf(ID, |_| {}).der, &[&outside], &root);
    assert_eq!(refused, Err(PathError::NoPath(Obstacle::NameConstraints)));
    let self_issued = root.intermediate("root", named("evil.example"));
    assert_eq!(judge(&self_issued.leaf(ID, |_| {}).der, &[&self_issued], &root), Ok(()), "section 6.1.3");
}

#[test]
fn the_profile_of_section_4_is_held_against_issuers_here_but_not_in_svids() {
    let root = root();
    let sloppy = root.leaf(ID, |it| it.use_authority_key_identifier_extension = false).der;
    assert!(judge(&sloppy, &[], &root).is_err());
    let bundles = crate::test_pki::bundles("acme.example", &[&root.der]);
    assert!(crate::x509::svid::verify(&[sloppy], &bundles, NOW).is_ok());
}

/// How one certificate of a generated chain is wrong, if at all.
#[derive(Clone, Copy, Debug)]
enum Flaw {
    None,
    Expired,
    NotYet,
    NoAuthority,
    MayNotSign,
    PathLength(u8),
    OtherKey,
    UnknownCritical,
    Dns(bool, &'static str),
}

fn flaw() -> impl Strategy<Value = Flaw> {
    let host = prop::sample::select(vec!["acme.example", "web.acme.example", "evil.example", "example"]);
    prop_oneof![
        6 => Just(Flaw::None),
        1 => Just(Flaw::Expired),
        1 => Just(Flaw::NotYet),
        1 => Just(Flaw::NoAuthority),
        1 => Just(Flaw::MayNotSign),
        2 => (0_u8..3).prop_map(Flaw::PathLength),
        1 => Just(Flaw::OtherKey),
        1 => Just(Flaw::UnknownCritical),
        2 => (any::<bool>(), host).prop_map(|(permitted, host)| Flaw::Dns(permitted, host)),
    ]
}

impl Flaw {
    fn apply(self, it: &mut CertificateParams) {
        match self {
            Self::None | Self::OtherKey => {}
            Self::Expired => it.not_after = moment(-1),
            Self::NotYet => it.not_before = moment(HOUR / 2),
            Self::NoAuthority => it.is_ca = IsCa::ExplicitNoCa,
            Self::MayNotSign => it.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign],
            Self::PathLength(most) => it.is_ca = IsCa::Ca(BasicConstraints::Constrained(most)),
            Self::UnknownCritical => it.custom_extensions.push(extension(&[1, 2, 3, 4], true, &[5, 0])),
            Self::Dns(permitted, host) => {
                let subtrees = vec![GeneralSubtree::DnsName(host.to_owned())];
                it.name_constraints = Some(match permitted {
                    true => NameConstraints { permitted_subtrees: subtrees, excluded_subtrees: Vec::new() },
                    false => NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: subtrees },
                });
            }
        }
    }
}

fn accepted_by_webpki(
    leaf: &CertificateDer<'_>,
    pool: &[CertificateDer<'_>],
    root: &CertificateDer<'_>,
) -> bool {
    let anchors = [webpki::anchor_from_trusted_cert(root).unwrap()];
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW.unix_seconds().unsigned_abs()));
    let usage = webpki::KeyUsage::client_auth();
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    webpki::EndEntityCert::try_from(leaf)
        .and_then(|leaf| leaf.verify_for_usage(algorithms, &anchors, pool, now, usage, None, None).map(drop))
        .is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Where webpki judges completely, both come to the same judgement; where it does not look
    /// (authorities' key usages, and whatever makes a root unfit), this one is the stricter.
    #[test]
    fn webpki_agrees_about_generated_chains(flaws in prop::collection::vec(flaw(), 1..5), name in 0_usize..3) {
        let mut authorities = vec![Authority::root("root", |it| flaws[0].apply(it))];
        for (n, flaw) in flaws.iter().enumerate().skip(1) {
            let parent = &authorities[n - 1];
            let name = format!("authority {n}");
            let mut next = parent.intermediate(&name, |it| flaw.apply(it));
            if matches!(flaw, Flaw::OtherKey) {
                next.der = parent.intermediate(&name, |_| {}).der; // the right name, another key
            }
            authorities.push(next);
        }
        let name = ["web.acme.example", "acme.example", "evil.example"][name];
        let leaf = authorities[flaws.len() - 1].leaf(ID, |it| {
            it.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()));
        });
        let pool: Vec<_> = authorities[1..].iter().map(|authority| authority.der.clone()).collect();
        let ours = validate(&leaf.der, &pool, &[authorities[0].der.clone()], &demands());
        let theirs = accepted_by_webpki(&leaf.der, &pool, &authorities[0].der);
        let root_unfit = matches!(flaws[0], Flaw::Expired | Flaw::NotYet | Flaw::NoAuthority | Flaw::UnknownCritical | Flaw::PathLength(_));
        let unseen = root_unfit || flaws.iter().any(|flaw| matches!(flaw, Flaw::MayNotSign));
        prop_assert!(theirs || ours.is_err(), "only this project accepts");
        prop_assert!(unseen || ours.is_ok() == theirs, "{ours:?}, webpki {theirs}");
    }
}
