//! A log that goes on from a backup: what counts in it and what does not.

use std::time::Duration;

use registry::{
    decide::{
        backup::{BeginAnew, Begun},
        fence::FenceNode,
        node::{BanNode, NodeRefusal, NodeSeen, Standing},
        returning::ReturnNode,
        token::CreateToken,
    },
    objects::{NodeState, Sha256},
};

use crate::support::{World, any_node, attest, entry};

const KEEP: BeginAnew = BeginAnew { evict_nodes: false };
const HOUR: Duration = Duration::from_secs(3600);

fn token(world: &mut World, node: &str) {
    let (node, secret_sha256) = (node.parse().unwrap(), Sha256::of(b"second"));
    world.run(CreateToken { node, secret_sha256, ttl: Duration::from_secs(600) }).unwrap();
}

#[test]
fn tokens_that_were_not_spent_are_void() {
    let mut world = World::new();
    world.join("spent");
    token(&mut world, "fresh");
    token(&mut world, "bound");
    world.run(attest("bound", "second", "key", "aa", world.now)).unwrap();
    let begun = world.run(KEEP).unwrap();
    assert_eq!(begun.tokens_void, 2);
    for node in ["fresh", "bound"] {
        let again = world.run(attest(node, "second", "key", "bb", world.now));
        assert!(again.is_err(), "the token of {node} may have been spent after the backup");
    }
}

#[test]
fn no_certificate_of_a_node_counts_until_it_has_returned_by_its_key() {
    let mut world = World::new();
    let id = world.join("web-1");
    world.create(entry("e", "/app", &any_node()));
    let node = world.registry.node(&id).unwrap();
    let (serial, end) = (node.serial.clone(), node.expires_at);
    assert_eq!(world.run(KEEP).unwrap(), Begun { nodes_to_return: 1, ..Begun::default() });
    for shown in [serial.as_str(), "renewed after the backup"] {
        assert_eq!(world.registry.standing(&id, shown), Err(NodeRefusal::Restored));
    }
    assert_eq!(world.registry.view(&id), None);
    let key_sha256 = Sha256::of(b"key");
    let shown = FenceNode { id: id.clone(), serial, key_sha256, not_after: end };
    assert!(!world.registry.betrays_duplicate(&shown), "an old certificate is what a restored node has");

    let not_after = world.now + HOUR;
    world.run(ReturnNode { id: id.clone(), key_sha256, serial: "cc".into(), not_after }).unwrap();
    let record = world.last_record();
    assert_eq!((&record["kind"], &record["facts"]["was"]), (&"node.return".into(), &"restored".into()));
    assert_eq!(world.registry.standing(&id, "cc"), Ok(Standing::First));
    world.run(NodeSeen { id: id.clone(), serial: "cc".into() }).unwrap();
    assert_eq!(world.registry.node(&id).unwrap().state, NodeState::Active);
    assert_eq!(world.entries_of(&id), ["e"]);
}

#[test]
fn a_banned_node_stays_banned_and_evicted_ones_have_no_way_back_but_a_new_token() {
    let mut world = World::new();
    let (banned, evicted) = (world.join("banned"), world.join("web-1"));
    world.run(BanNode { id: banned.clone() }).unwrap();
    let begun = world.run(BeginAnew { evict_nodes: true }).unwrap();
    assert_eq!((begun.nodes_to_return, begun.nodes_evicted), (0, 1));
    assert_eq!(world.registry.node(&banned).unwrap().state, NodeState::Banned);
    let (key_sha256, not_after) = (Sha256::of(b"key"), world.now + HOUR);
    let come_back = ReturnNode { id: evicted, key_sha256, serial: "aa".into(), not_after };
    assert_eq!(world.run(come_back), Err(NodeRefusal::NotAttested));
    token(&mut world, "web-1");
    assert!(world.run(attest("web-1", "second", "new key", "bb", world.now)).is_ok());
}

#[test]
fn a_restored_node_may_join_again_with_a_token() {
    let mut world = World::new();
    let id = world.join("web-1");
    world.run(KEEP).unwrap();
    token(&mut world, "web-1");
    world.run(attest("web-1", "second", "new key", "bb", world.now)).unwrap();
    world.run(NodeSeen { id: id.clone(), serial: "bb".into() }).unwrap();
    assert_eq!(world.registry.node(&id).unwrap().state, NodeState::Active);
}
