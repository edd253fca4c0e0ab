//! Nodes that attest by something else than a join token, again and again.

use std::time::Duration;

use registry::{
    decide::{
        admission::{AdmitNode, Claim, NotAdmitted},
        expire::Expire,
        node::{BanNode, EvictNode, NodeRefusal, NodeSeen, Standing},
        token::CreateToken,
    },
    objects::{NodeState, Sha256},
};
use spiffe::{Selector, SpiffeId};

use crate::support::{World, attest, id};

fn claim(path: &str, key: &str) -> Claim {
    let key_sha256 = Sha256::of(key.as_bytes());
    Claim { id: id(path), twin: None, attestor: "x509pop", once: None, key_sha256 }
}

fn admit(world: &mut World, claim: Claim, serial: &str) -> Result<SpiffeId, NotAdmitted> {
    let named = world.registry.admits(&claim)?;
    let not_after = world.now + Duration::from_secs(3600);
    let selectors = [Selector::new("x509pop", "subject:cn:web-1").unwrap()].into();
    world.run(AdmitNode { claim: claim.of(&named), selectors, serial: serial.to_owned(), not_after })
}

fn seen(world: &mut World, id: &SpiffeId, serial: &str) -> Result<(), NodeRefusal> {
    world.run(NodeSeen { id: id.clone(), serial: serial.to_owned() })
}

const WEB: &str = "/spire/agent/x509pop/web-1";

#[test]
fn a_node_attests_again_with_another_key_and_keeps_its_id_and_its_certificate_until_the_next_is_used() {
    let mut world = World::new();
    let id = admit(&mut world, claim(WEB, "one"), "01").unwrap();
    seen(&mut world, &id, "01").unwrap();
    assert_eq!(admit(&mut world, claim(WEB, "two"), "02"), Ok(id.clone()));
    assert_eq!(world.registry.standing(&id, "01"), Ok(Standing::Good), "the reply may be lost");
    seen(&mut world, &id, "02").unwrap();
    assert_eq!(world.registry.standing(&id, "01"), Err(NodeRefusal::NotActive));
    let node = world.registry.node(&id).unwrap();
    assert_eq!((node.key_sha256, node.state), (Sha256::of(b"two"), NodeState::Active));
    assert!(node.can_reattest());
}

#[test]
fn whoever_was_replaced_does_not_take_the_place_again_until_the_node_is_evicted() {
    let mut world = World::new();
    let id = admit(&mut world, claim(WEB, "one"), "01").unwrap();
    seen(&mut world, &id, "01").unwrap();
    for (key, serial) in [("two", "02"), ("three", "03")] {
        admit(&mut world, claim(WEB, key), serial).unwrap();
        seen(&mut world, &id, serial).unwrap();
    }
    let before = world.registry.revision();
    for key in ["one", "two"] {
        assert_eq!(admit(&mut world, claim(WEB, key), "04"), Err(NotAdmitted::Replaced), "{key}");
    }
    assert_eq!(world.registry.revision(), before, "the log does not grow by it");
    admit(&mut world, claim(WEB, "three"), "05").unwrap();
    world.run(EvictNode { id: id.clone() }).unwrap();
    assert_eq!(admit(&mut world, claim(WEB, "one"), "06"), Ok(id));
}

#[test]
fn the_keys_that_a_node_had_are_remembered_within_bounds() {
    let mut world = World::new();
    let id = admit(&mut world, claim(WEB, "first"), "0").unwrap();
    seen(&mut world, &id, "0").unwrap();
    for n in 1..100 {
        admit(&mut world, claim(WEB, &n.to_string()), &n.to_string()).unwrap();
        seen(&mut world, &id, &n.to_string()).unwrap();
    }
    let kept: Vec<Sha256> = (91..99).map(|n: u8| Sha256::of(n.to_string().as_bytes())).collect();
    assert_eq!(world.registry.node(&id).unwrap().replaced_keys, kept);
}

#[test]
fn a_banned_node_stays_out_under_both_spellings_of_its_proof_and_eviction_lets_it_in() {
    let mut world = World::new();
    let twin = "/spire/agent/x509pop/twin";
    let one = Claim { twin: Some(id(twin)), ..claim(WEB, "one") };
    let other = Claim { twin: Some(id(WEB)), ..claim(twin, "another") };
    let admitted = admit(&mut world, one.clone(), "01").unwrap();
    seen(&mut world, &admitted, "01").unwrap();
    assert_eq!(admit(&mut world, other.clone(), "02"), Ok(admitted.clone()), "it is the same node");
    world.run(BanNode { id: admitted.clone() }).unwrap();
    for claim in [&one, &other] {
        assert_eq!(admit(&mut world, claim.clone(), "03"), Err(NotAdmitted::Banned));
    }
    world.run(EvictNode { id: admitted }).unwrap();
    assert_eq!(admit(&mut world, other, "04"), Ok(id(twin)), "the first that comes is the node");
    assert_eq!(admit(&mut world, one, "05"), Ok(id(twin)));
}

#[test]
fn a_proof_that_counts_once_belongs_to_the_first_key_until_it_ends_even_if_the_node_is_evicted() {
    let mut world = World::new();
    let until = world.now + Duration::from_secs(600);
    let once = |key: &str| Claim { once: Some((Sha256::of(b"token"), until)), ..claim(WEB, key) };
    let id = admit(&mut world, once("one"), "01").unwrap();
    assert_eq!(admit(&mut world, once("one"), "02"), Ok(id.clone()), "a reply was lost");
    assert_eq!(admit(&mut world, once("two"), "03"), Err(NotAdmitted::Used));
    world.run(EvictNode { id: id.clone() }).unwrap();
    assert_eq!(admit(&mut world, once("two"), "04"), Err(NotAdmitted::Used));
    world.now = until;
    assert_eq!(world.run(Expire).len(), 1);
    assert!(world.registry.proof(&Sha256::of(b"token")).is_none(), "nothing is kept for ever");
}

#[test]
fn nobody_becomes_a_node_that_attested_by_other_means() {
    let mut world = World::new();
    let secret_sha256 = Sha256::of(b"secret");
    let ttl = Duration::from_secs(600);
    world.run(CreateToken { node: "web-1".parse().unwrap(), secret_sha256, ttl }).unwrap();
    let command = attest("web-1", "secret", "key", "01", world.now);
    let joined = world.run(command).unwrap().id;
    assert_eq!(admit(&mut world, claim(joined.path(), "one"), "02"), Err(NotAdmitted::OfOthers));
    let node = admit(&mut world, claim(WEB, "one"), "03").unwrap();
    let other = Claim { attestor: "oidc", ..claim(WEB, "two") };
    assert_eq!(admit(&mut world, other, "04"), Err(NotAdmitted::OfOthers));
    assert_eq!(world.registry.node(&node).unwrap().attestor, "x509pop");
}

#[test]
fn entries_find_a_node_by_what_it_proved() {
    let mut world = World::new();
    let node = admit(&mut world, claim(WEB, "one"), "01").unwrap();
    let selectors: Vec<String> =
        world.registry.node(&node).unwrap().selectors.iter().map(ToString::to_string).collect();
    assert_eq!(selectors, ["x509pop:subject:cn:web-1"]);
    assert_eq!(world.last_record()["kind"], "node.attest");
    assert!(!world.last_record().to_string().contains("subject:cn"), "selectors stay out of the audit log");
}
