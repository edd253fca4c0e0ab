//! A node that comes back by its key, and two that have the same one.

use std::time::Duration;

use crate::support::{World, any_node, attest, entry};
use registry::{
    decide::{
        fence::FenceNode,
        node::{BanNode, EvictNode, NodeRefusal, NodeSeen, RenewNode, Standing},
        returning::ReturnNode,
        token::CreateToken,
    },
    objects::{NodeState, Sha256},
};
use spiffe::{SpiffeId, Timestamp};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: u64 = 24 * 3600;

fn come_back(world: &mut World, id: &SpiffeId, key: &str, serial: &str) -> Result<(), NodeRefusal> {
    let (serial, not_after) = (serial.to_owned(), world.now + HOUR);
    world.run(ReturnNode { id: id.clone(), key_sha256: Sha256::of(key.as_bytes()), serial, not_after })
}

fn renew(world: &mut World, id: &SpiffeId, presented: &str, serial: &str) {
    let (presented, serial, key_sha256) = (presented.to_owned(), serial.to_owned(), Sha256::of(b"key"));
    let not_after = world.now + HOUR;
    world.run(RenewNode { id: id.clone(), presented, serial, key_sha256, not_after }).unwrap();
}

fn seen(world: &mut World, id: &SpiffeId, serial: &str) -> Result<(), NodeRefusal> {
    world.run(NodeSeen { id: id.clone(), serial: serial.to_owned() })
}

fn serial(world: &World, id: &SpiffeId) -> String {
    world.registry.node(id).unwrap().serial.clone()
}

fn show(world: &mut World, id: &SpiffeId, serial: &str, key: &str, not_after: Timestamp) -> NodeRefusal {
    let (serial, key_sha256) = (serial.to_owned(), Sha256::of(key.as_bytes()));
    world.run(FenceNode { id: id.clone(), serial, key_sha256, not_after })
}

fn token(world: &mut World, node: &str) {
    let (node, secret_sha256) = (node.parse().unwrap(), Sha256::of(b"second"));
    world.run(CreateToken { node, secret_sha256, ttl: Duration::from_secs(600) }).unwrap();
}

#[test]
fn a_node_returns_by_its_key_after_its_certificate_has_ended_and_sees_what_it_saw() {
    let mut world = World::new();
    let id = world.join("web-1");
    world.create(entry("e", "/app", &any_node()));
    world.wait(20 * DAY);
    assert_eq!(come_back(&mut world, &id, "key", "aa"), Ok(()));
    let record = world.last_record();
    assert_eq!((&record["kind"], &record["facts"]["node"]), (&"node.return".into(), &id.to_string().into()));
    assert_eq!(world.registry.standing(&id, "aa"), Ok(Standing::First));
    assert_eq!(come_back(&mut world, &id, "key", "bb"), Ok(()), "the reply may have been lost");
    assert_eq!(seen(&mut world, &id, "bb"), Ok(()));
    assert_eq!(serial(&world, &id), "bb");
    assert_eq!(world.entries_of(&id), ["e"]);
}

#[test]
fn nothing_less_than_the_nodes_own_key_brings_it_back_and_the_log_does_not_grow_by_trying() {
    let mut world = World::new();
    let id = world.join("web-1");
    let unknown = crate::support::id("/spire/agent/join_token/web-2");
    let commits = world.log.len();
    assert_eq!(come_back(&mut world, &id, "another key", "aa"), Err(NodeRefusal::NotAttested));
    assert_eq!(come_back(&mut world, &unknown, "key", "aa"), Err(NodeRefusal::NotAttested));
    assert_eq!(world.log.len(), commits);
}

#[test]
fn the_window_opens_when_the_newest_certificate_ends() {
    let mut world = World::new();
    let id = world.join("web-1");
    let end = world.registry.node(&id).unwrap().expires_at;
    world.now = end + Duration::from_secs(30 * DAY - 1);
    assert!(world.registry.may_return(&id, &Sha256::of(b"key"), world.now).is_ok());
    world.wait(1);
    assert_eq!(come_back(&mut world, &id, "key", "aa"), Err(NodeRefusal::AwayTooLong));
}

#[test]
fn a_banned_and_an_evicted_node_do_not_return() {
    let mut world = World::new();
    let (banned, evicted) = (world.join("banned"), world.join("evicted"));
    world.run(BanNode { id: banned.clone() }).unwrap();
    world.run(EvictNode { id: evicted.clone() }).unwrap();
    assert_eq!(come_back(&mut world, &banned, "key", "aa"), Err(NodeRefusal::Banned));
    assert_eq!(come_back(&mut world, &evicted, "key", "aa"), Err(NodeRefusal::NotAttested));
}

#[test]
fn a_lost_key_is_replaced_by_a_token_for_the_same_name_and_the_old_key_is_worth_nothing() {
    let mut world = World::new();
    let id = world.join("web-1");
    world.create(entry("e", "/app", &id));
    token(&mut world, "web-1");
    let again = world.run(attest("web-1", "second", "new key", "aa", world.now)).unwrap();
    assert_eq!(again.id, id);
    seen(&mut world, &id, "aa").unwrap();
    assert_eq!(world.entries_of(&id), ["e"]);
    assert_eq!(come_back(&mut world, &id, "key", "bb"), Err(NodeRefusal::NotAttested));
    assert_eq!(come_back(&mut world, &id, "new key", "cc"), Ok(()));
}

#[test]
fn a_certificate_from_before_betrays_a_second_agent_and_both_are_fenced() {
    let mut world = World::new();
    let id = world.join("web-1");
    world.create(entry("e", "/app", &id));
    let (first, end) = (serial(&world, &id), world.registry.node(&id).unwrap().expires_at);
    renew(&mut world, &id, &first, "aa");
    assert_eq!(show(&mut world, &id, &first, "key", end), NodeRefusal::NotActive, "the next is not used yet");
    assert_eq!(world.registry.node(&id).unwrap().state, NodeState::Active);
    seen(&mut world, &id, "aa").unwrap();

    assert_eq!(show(&mut world, &id, &first, "key", end), NodeRefusal::Fenced);
    let record = world.last_record();
    assert_eq!(record["kind"], "node.duplicate_agent");
    assert_eq!(
        (&record["facts"]["shown"], &record["facts"]["current"]),
        (&first.as_str().into(), &"aa".into())
    );
    for serial in ["aa", &first] {
        assert_eq!(world.registry.standing(&id, serial), Err(NodeRefusal::Fenced));
    }
    assert_eq!(world.registry.view(&id), None);
    assert_eq!(come_back(&mut world, &id, "key", "bb"), Err(NodeRefusal::Fenced));
}

#[test]
fn a_fenced_node_joins_again_with_a_token_and_another_key() {
    let mut world = World::new();
    let id = world.join("web-1");
    world.create(entry("e", "/app", &id));
    let (first, end) = (serial(&world, &id), world.registry.node(&id).unwrap().expires_at);
    renew(&mut world, &id, &first, "aa");
    seen(&mut world, &id, "aa").unwrap();
    show(&mut world, &id, &first, "key", end);
    token(&mut world, "web-1");
    assert!(
        world.run(attest("web-1", "second", "key", "bb", world.now)).is_err(),
        "the key is in two places"
    );
    assert_eq!(world.last_record()["reason"], "the node's key is in two places");
    world.run(attest("web-1", "second", "new key", "cc", world.now)).unwrap();
    seen(&mut world, &id, "cc").unwrap();
    assert_eq!(world.entries_of(&id), ["e"]);
}

#[test]
fn neither_a_rolled_back_log_nor_another_key_is_taken_for_a_second_agent() {
    let mut world = World::new();
    let id = world.join("web-1");
    let end = world.registry.node(&id).unwrap().expires_at;
    let later = end + Duration::from_secs(1);
    assert_eq!(show(&mut world, &id, "given-after-the-backup", "key", later), NodeRefusal::NotActive);
    assert_eq!(show(&mut world, &id, "given-to-another-key", "old key", end), NodeRefusal::NotActive);
    assert_eq!(world.registry.node(&id).unwrap().state, NodeState::Active);
    assert_eq!(come_back(&mut world, &id, "key", "aa"), Ok(()));
}

#[test]
fn what_was_under_way_when_a_certificate_was_renewed_can_be_told_from_what_comes_later() {
    let mut world = World::new();
    let id = world.join("web-1");
    assert!(!world.registry.has_just_changed(&id, world.now), "it has had one certificate only");
    let first = serial(&world, &id);
    renew(&mut world, &id, &first, "aa");
    seen(&mut world, &id, "aa").unwrap();
    assert!(world.registry.has_just_changed(&id, world.now));
    assert!(!world.registry.has_just_changed(&id, world.now + Duration::from_secs(1)));
}
