//! Turns of the CA's slots, with real certificates.

use std::time::Duration;

use crate::support::World;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use registry::{
    Refusal,
    decide::authority::{NewAuthority, Turn, TurnAuthorities},
    decide::backup::BeginAnew,
    objects::{AuthorityId, Kind, Slot, Tainted, authority::Der},
};
use spiffe::Timestamp;

const DAY: u64 = 24 * 3600;

fn authority_id(number: u8) -> AuthorityId {
    format!("{number:02x}aa").parse().unwrap()
}

/// A self-signed root that lives a day from `now` on.
fn new_authority(number: u8, now: Timestamp) -> NewAuthority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI("spiffe://acme.example".try_into().unwrap())];
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    NewAuthority {
        id: authority_id(number),
        kind: Kind::X509 { chain: vec![Der(certificate.der().to_vec().into())] },
        not_before: now,
        not_after: now + Duration::from_secs(DAY),
    }
}

/// A key for tokens that lives a day from `now` on.
fn new_jwt_authority(number: u8, now: Timestamp) -> NewAuthority {
    let key = spiffe::PrivateKey::generate().unwrap().public_key().unwrap();
    NewAuthority { kind: Kind::Jwt { public_key: Der(key.into()) }, ..new_authority(number, now) }
}

fn old(retire_at: Timestamp) -> Slot {
    Slot::Old { retire_at, tainted: false }
}

fn turn(world: &mut World, turns: Vec<Turn>) -> Result<(), Refusal> {
    world.run(TurnAuthorities { turns })
}

fn prepare(world: &mut World, number: u8) -> Result<(), Refusal> {
    let new = new_authority(number, world.now);
    turn(world, vec![Turn::Prepare(new)])
}

fn slot(world: &World, number: u8) -> Slot {
    world.registry.authority(&authority_id(number)).unwrap().slot
}

/// The sequence of the trust domain's bundle and how many roots it has.
fn bundle(world: &World) -> (u64, usize) {
    let bundle = world.registry.bundle(world.registry.trust_domain()).unwrap();
    (bundle.authorities().sequence.unwrap(), bundle.authorities().x509_authorities.len())
}

#[test]
fn a_first_start_prepares_and_activates_in_one_commit() {
    let mut world = World::new();
    let new = new_authority(1, world.now);
    turn(&mut world, vec![Turn::Prepare(new), Turn::Activate(authority_id(1))]).unwrap();
    assert_eq!((world.log.len(), slot(&world, 1), bundle(&world)), (1, Slot::Active, (1, 1)));
}

#[test]
fn roots_are_published_before_they_sign_and_until_their_last_svid_has_ended() {
    let mut world = World::new();
    prepare(&mut world, 1).unwrap();
    turn(&mut world, vec![Turn::Activate(authority_id(1))]).unwrap();
    world.wait(DAY / 2);
    prepare(&mut world, 2).unwrap();
    assert_eq!(bundle(&world), (2, 2));
    world.wait(DAY / 3);
    turn(&mut world, vec![Turn::Activate(authority_id(2))]).unwrap();
    assert_eq!(bundle(&world), (2, 2), "an activation publishes nothing new");
    let last_svid = world.now + Duration::from_secs(DAY / 6);
    assert_eq!(slot(&world, 1), old(last_svid), "its own end comes before the leeway");
    let early = turn(&mut world, vec![Turn::Retire(authority_id(1))]);
    assert!(matches!(early, Err(Refusal::Precondition(_))));
    world.wait(DAY / 6);
    turn(&mut world, vec![Turn::Retire(authority_id(1))]).unwrap();
    assert_eq!(bundle(&world), (3, 1));
    assert!(world.registry.authority(&authority_id(1)).is_none());
}

#[test]
fn an_old_root_stays_ten_seconds_longer_than_its_last_svid() {
    let mut world = World::new();
    prepare(&mut world, 1).unwrap();
    turn(&mut world, vec![Turn::Activate(authority_id(1))]).unwrap();
    prepare(&mut world, 2).unwrap();
    turn(&mut world, vec![Turn::Activate(authority_id(2))]).unwrap();
    assert_eq!(slot(&world, 1), old(world.now + Duration::from_secs(DAY / 6 + 10)));
}

#[test]
fn an_authority_from_a_longer_ca_ttl_is_kept_for_its_own_svids() {
    let mut world = World::new();
    prepare(&mut world, 1).unwrap();
    turn(&mut world, vec![Turn::Activate(authority_id(1))]).unwrap();
    let shorter = registry::Settings { ca_ttl: Duration::from_secs(60), ..world.registry.settings().clone() };
    let registry = &world.registry;
    let objects = registry.authorities().map(registry::Stored::from).collect::<Vec<_>>();
    world.registry =
        registry::Registry::restore(shorter, registry.log().clone(), registry.revision(), objects);
    prepare(&mut world, 2).unwrap();
    turn(&mut world, vec![Turn::Activate(authority_id(2))]).unwrap();
    assert_eq!(slot(&world, 1), old(world.now + Duration::from_secs(DAY / 6 + 10)));
}

#[test]
fn turns_out_of_order_are_refused_and_change_nothing() {
    let mut world = World::new();
    prepare(&mut world, 1).unwrap();
    let twice = prepare(&mut world, 1);
    assert!(matches!(twice, Err(Refusal::AlreadyExists(_))));
    assert!(
        matches!(prepare(&mut world, 2), Err(Refusal::Precondition(why)) if why.contains("prepared already"))
    );
    assert!(matches!(turn(&mut world, vec![Turn::Activate(authority_id(9))]), Err(Refusal::NotFound(_))));
    turn(&mut world, vec![Turn::Activate(authority_id(1))]).unwrap();
    for wrong in [Turn::Activate(authority_id(1)), Turn::Retire(authority_id(1))] {
        assert!(matches!(turn(&mut world, vec![wrong]), Err(Refusal::Precondition(_))));
    }
    let new = new_authority(2, world.now);
    let half = turn(&mut world, vec![Turn::Prepare(new), Turn::Retire(authority_id(9))]);
    assert!(half.is_err() && world.registry.authorities().len() == 1, "all of the turns or none");
    prepare(&mut world, 3).unwrap();
    world.wait(DAY);
    let late = turn(&mut world, vec![Turn::Activate(authority_id(3))]);
    assert!(matches!(late, Err(Refusal::Precondition(why)) if why.contains("not now")));
    turn(&mut world, vec![Turn::Retire(authority_id(3))]).unwrap();
}

#[test]
fn an_authority_that_no_bundle_can_hold_is_refused() {
    let mut world = World::new();
    let garbage = Der(vec![1, 2, 3].into());
    for kind in [
        Kind::X509 { chain: vec![garbage.clone()] },
        Kind::X509 { chain: vec![] },
        Kind::Jwt { public_key: garbage },
    ] {
        let new = NewAuthority { kind, ..new_authority(1, world.now) };
        assert!(matches!(turn(&mut world, vec![Turn::Prepare(new)]), Err(Refusal::Invalid(_))));
    }
    assert_eq!(world.registry.authorities().len(), 0);
}

#[test]
fn each_use_has_its_own_slots_and_the_bundle_publishes_both() {
    let mut world = World::new();
    prepare(&mut world, 1).unwrap();
    let token_key = new_jwt_authority(2, world.now);
    turn(&mut world, vec![Turn::Prepare(token_key), Turn::Activate(authority_id(2))]).unwrap();
    turn(&mut world, vec![Turn::Activate(authority_id(1))]).unwrap();
    assert_eq!((slot(&world, 1), slot(&world, 2)), (Slot::Active, Slot::Active));
    let bundle = world.registry.bundle(world.registry.trust_domain()).unwrap();
    let published = bundle.authorities();
    assert_eq!((published.x509_authorities.len(), published.jwt_authorities.len()), (1, 1));
    assert_eq!(published.jwt_authorities[0].kid, authority_id(2).to_string());
    let document: serde_json::Value = serde_json::from_slice(&bundle.document()).unwrap();
    assert_eq!(
        (&document["keys"][1]["use"], &document["keys"][1]["kid"]),
        (&"jwt-svid".into(), &"02aa".into())
    );
}

#[test]
fn only_an_old_authority_is_tainted_and_only_a_tainted_one_revoked() {
    let mut world = World::new();
    prepare(&mut world, 1).unwrap();
    let (taint, revoke) = (|n| vec![Turn::Taint(authority_id(n))], |n| vec![Turn::Revoke(authority_id(n))]);
    for wrong in [taint(1), revoke(1)] {
        assert!(matches!(turn(&mut world, wrong), Err(Refusal::Invalid(_))), "it never signed");
    }
    turn(&mut world, vec![Turn::Activate(authority_id(1))]).unwrap();
    prepare(&mut world, 2).unwrap();
    for wrong in [taint(1), revoke(1)] {
        assert!(matches!(turn(&mut world, wrong), Err(Refusal::Invalid(_))), "it signs");
    }
    turn(&mut world, vec![Turn::Activate(authority_id(2))]).unwrap();
    assert!(
        matches!(turn(&mut world, revoke(1)), Err(Refusal::Precondition(why)) if why.contains("taint it"))
    );
    turn(&mut world, taint(1)).unwrap();
    assert!(matches!(turn(&mut world, taint(1)), Err(Refusal::Precondition(_))));
    assert_eq!(bundle(&world), (3, 2), "published still, and everyone is told");
    let own = |world: &World| world.registry.bundle(world.registry.trust_domain()).unwrap().clone();
    assert!(own(&world).tainted().x509.contains(&authority_id(1)));
    turn(&mut world, revoke(1)).unwrap();
    assert_eq!((bundle(&world), own(&world).tainted()), ((4, 1), &Tainted::default()));
}

#[test]
fn every_node_is_woken_by_a_new_bundle() {
    let mut world = World::new();
    let node = world.join("web-1");
    let at = world.registry.revision();
    prepare(&mut world, 1).unwrap();
    let registry = &world.registry;
    let touched: Vec<_> = registry.touched_since(at).unwrap().collect();
    assert!(touched[0].concerns(&node));
    match registry.diff(&node, registry.log(), at) {
        registry::Follow::Delta(delta) => assert_eq!(delta.put.len(), 1, "the bundle, and no authority"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_restored_bundle_gets_a_number_beyond_all_that_agents_can_have_seen() {
    let mut world = World::new();
    let new = new_authority(1, world.now);
    turn(&mut world, vec![Turn::Prepare(new), Turn::Activate(authority_id(1))]).unwrap();
    assert_eq!(bundle(&world).0, 1);
    let restore = |world: &mut World| {
        world.run(BeginAnew { evict_nodes: false }).unwrap();
        bundle(world).0
    };
    let first = restore(&mut world);
    assert!(first >= u64::try_from(world.now.unix_seconds()).unwrap());
    assert!(restore(&mut world) > first, "also in the same second");
    assert_eq!(world.last_record()["kind"], "log.begin_anew");
}
