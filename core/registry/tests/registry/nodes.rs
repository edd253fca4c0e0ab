//! How a node joins, stays, and is turned away.

use std::time::Duration;

use crate::support::{World, any_node, attest, entry, id};
use registry::{
    Follow, Key, Refusal,
    decide::{
        expire::Expire,
        node::{BanNode, EvictNode, NodeRefusal, NodeSeen, PurgeNodes, RenewNode, Standing},
        token::{Attested, CreateToken, ResetToken},
    },
    objects::{JoinToken, NodeName, NodeState, Sha256, TokenState, well_known},
};
use spiffe::SpiffeId;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn token(world: &mut World, node: &str, secret: &str) {
    let secret_sha256 = Sha256::of(secret.as_bytes());
    world.run(CreateToken { node: name(node), secret_sha256, ttl: Duration::from_secs(600) }).unwrap();
}

fn join(world: &mut World, node: &str, secret: &str, key: &str, serial: &str) -> Result<SpiffeId, Refusal> {
    let command = attest(node, secret, key, serial, world.now);
    world.run(command).map(|Attested { id }| id)
}

fn seen(world: &mut World, id: &SpiffeId, serial: &str) -> Result<(), NodeRefusal> {
    world.run(NodeSeen { id: id.clone(), serial: serial.to_owned() })
}

fn renew(
    world: &mut World,
    id: &SpiffeId,
    presented: &str,
    serial: &str,
    key: &str,
) -> Result<(), NodeRefusal> {
    let not_after = world.now + Duration::from_secs(3600);
    let (presented, serial) = (presented.to_owned(), serial.to_owned());
    world.run(RenewNode {
        id: id.clone(),
        presented,
        serial,
        key_sha256: Sha256::of(key.as_bytes()),
        not_after,
    })
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(world: &World, result: Result<T, Refusal>, reason: &str) {
    let refusal = result.expect_err("it was admitted");
    assert!(matches!(refusal, Refusal::Denied(_)));
    let told = refusal.to_string();
    assert!(!told.contains(reason), "a stranger is told {told:?}");
    assert_eq!(world.last_record()["outcome"], "refused");
    assert_eq!(world.last_record()["reason"], reason);
}

#[test]
fn a_whole_token_is_taken_apart_at_its_last_dot() {
    let (text, hash) = JoinToken::mint(&name("web.1"), &[7; 32]);
    assert_eq!(JoinToken::split(&text), Some((name("web.1"), hash)));
    for wrong in ["", "web", "web.short", &text[1 + "web.1".len()..], &format!("{text}=")] {
        assert_eq!(JoinToken::split(wrong), None, "{wrong}");
    }
    assert!(text.parse::<NodeName>().is_err(), "a whole token is never taken for a name");
}

#[test]
fn a_token_binds_the_first_key_and_the_first_call_spends_it() {
    let mut world = World::new();
    token(&mut world, "web-1", "secret");
    let id = join(&mut world, "web-1", "secret", "key", "01").unwrap();
    assert_eq!(id, crate::support::id("/spire/agent/join_token/web-1"));
    let key_sha256 = Sha256::of(b"key");
    assert_eq!(world.registry.token(&name("web-1")).unwrap().state, TokenState::Bound { key_sha256 });
    assert_eq!(world.registry.node(&id).unwrap().state, NodeState::Joining);
    assert_eq!(world.registry.standing(&id, "01"), Ok(Standing::First));
    seen(&mut world, &id, "01").unwrap();
    assert_eq!(world.registry.token(&name("web-1")).unwrap().state, TokenState::Spent { key_sha256 });
    assert_eq!(world.registry.node(&id).unwrap().state, NodeState::Active);
    let commits = world.log.len();
    seen(&mut world, &id, "01").unwrap();
    assert_eq!(world.log.len(), commits, "every other call changes nothing");
    let again = join(&mut world, "web-1", "secret", "key", "02");
    assert_refused(&world, again, "the token is spent");
}

#[test]
fn a_lost_reply_is_repeated_to_the_same_key_only() {
    let mut world = World::new();
    token(&mut world, "web-1", "secret");
    let id = join(&mut world, "web-1", "secret", "key", "01").unwrap();
    assert_eq!(join(&mut world, "web-1", "secret", "key", "02"), Ok(id.clone()));
    let other = join(&mut world, "web-1", "secret", "other key", "03");
    assert_refused(&world, other, "the token is bound to another key");
    assert_eq!(
        seen(&mut world, &id, "01"),
        Err(NodeRefusal::NotActive),
        "the lost certificate is worth nothing"
    );
    assert_eq!(seen(&mut world, &id, "02"), Ok(()));
}

#[test]
fn of_many_keys_that_race_for_one_token_exactly_one_wins() {
    let mut world = World::new();
    token(&mut world, "web-1", "secret");
    let tried =
        (0..64).map(|n| join(&mut world, "web-1", "secret", &format!("key {n}"), &format!("{n:02x}")));
    let won: Vec<usize> = tried.enumerate().filter(|(_, result)| result.is_ok()).map(|(n, _)| n).collect();
    assert_eq!(won, [0]);
}

#[test]
fn strangers_are_told_the_same_whatever_is_wrong() {
    let mut world = World::new();
    let unknown = join(&mut world, "web-1", "secret", "key", "01");
    let told = unknown.clone().unwrap_err().to_string();
    assert_refused(&world, unknown, "there is no token of this node");
    token(&mut world, "web-1", "secret");
    let wrong = join(&mut world, "web-1", "guess", "key", "01");
    assert_eq!(wrong.clone().unwrap_err().to_string(), told);
    assert_refused(&world, wrong, "the secret is wrong");
    let key = Sha256::of(b"key");
    assert!(
        world.registry.admitted_by_token(&name("web-1"), &Sha256::of(b"secret"), &key, world.now).is_ok()
    );
    world.wait(600);
    let late = join(&mut world, "web-1", "secret", "key", "01");
    assert_eq!(late.clone().unwrap_err().to_string(), told);
    assert_refused(&world, late, "the token has expired");
    let asked = world.registry.admitted_by_token(&name("web-1"), &Sha256::of(b"secret"), &key, world.now);
    assert_eq!(asked.unwrap_err().to_string(), told);
}

#[test]
fn a_new_token_replaces_the_older_one() {
    let mut world = World::new();
    token(&mut world, "web-1", "old");
    token(&mut world, "web-1", "new");
    let old = join(&mut world, "web-1", "old", "key", "01");
    assert_refused(&world, old, "the secret is wrong");
    assert!(join(&mut world, "web-1", "new", "key", "01").is_ok());
}

#[test]
fn a_tokens_life_is_bounded() {
    let mut world = World::new();
    for seconds in [0, 31 * 24 * 3600] {
        let ttl = Duration::from_secs(seconds);
        let refused = world.run(CreateToken { node: name("n"), secret_sha256: Sha256::of(b"s"), ttl });
        assert!(matches!(refused, Err(Refusal::Invalid(_))));
    }
}

#[test]
fn a_reset_frees_the_token_and_the_first_key_loses_what_it_got() {
    let mut world = World::new();
    token(&mut world, "web-1", "secret");
    world.run(ResetToken { node: name("web-1") }).unwrap();
    let id = join(&mut world, "web-1", "secret", "first", "01").unwrap();
    world.run(ResetToken { node: name("web-1") }).unwrap();
    assert_eq!(seen(&mut world, &id, "01"), Err(NodeRefusal::NotAttested));
    join(&mut world, "web-1", "secret", "second", "02").unwrap();
    seen(&mut world, &id, "02").unwrap();
    let spent = world.run(ResetToken { node: name("web-1") });
    assert!(matches!(spent, Err(Refusal::Precondition(_))));
    assert!(matches!(world.run(ResetToken { node: name("web-2") }), Err(Refusal::NotFound(_))));
}

#[test]
fn a_node_that_joins_again_keeps_its_id_its_entries_and_its_certificate_until_the_new_one_is_used() {
    let mut world = World::new();
    let id = world.join("web-1");
    let serial = world.registry.node(&id).unwrap().serial.clone();
    world.create(entry("e", "/app", &id));
    token(&mut world, "web-1", "second");
    assert_eq!(join(&mut world, "web-1", "second", "new key", "aa"), Ok(id.clone()));
    assert_eq!(seen(&mut world, &id, &serial), Ok(()));
    assert_eq!(seen(&mut world, &id, "aa"), Ok(()));
    assert_eq!(seen(&mut world, &id, &serial), Err(NodeRefusal::NotActive));
    assert_eq!(world.registry.node(&id).unwrap().key_sha256, Sha256::of(b"new key"));
    assert_eq!(world.entries_of(&id), ["e"]);
    let again = join(&mut world, "web-1", "second", "new key", "bb");
    assert_refused(&world, again, "the token is spent");
}

#[test]
fn a_reset_takes_a_waiting_certificate_from_a_node_in_good_standing() {
    let mut world = World::new();
    let id = world.join("web-1");
    let serial = world.registry.node(&id).unwrap().serial.clone();
    token(&mut world, "web-1", "second");
    join(&mut world, "web-1", "second", "thief", "aa").unwrap();
    world.run(ResetToken { node: name("web-1") }).unwrap();
    assert_eq!(seen(&mut world, &id, "aa"), Err(NodeRefusal::NotActive));
    assert_eq!(seen(&mut world, &id, &serial), Ok(()));
}

#[test]
fn a_renewed_certificate_counts_from_its_first_use() {
    let mut world = World::new();
    let id = world.join("web-1");
    let serial = world.registry.node(&id).unwrap().serial.clone();
    assert_eq!(renew(&mut world, &id, "ff", "aa", "key"), Err(NodeRefusal::NotActive));
    renew(&mut world, &id, &serial, "aa", "new key").unwrap();
    assert_eq!(seen(&mut world, &id, &serial), Ok(()), "the reply may have been lost");
    assert_eq!(world.registry.standing(&id, "aa"), Ok(Standing::First));
    assert_eq!(
        renew(&mut world, &id, "aa", "bb", "key"),
        Err(NodeRefusal::NotActive),
        "not before its first call"
    );
    assert_eq!(seen(&mut world, &id, "aa"), Ok(()));
    let node = world.registry.node(&id).unwrap();
    assert_eq!((node.key_sha256, &node.next_serial), (Sha256::of(b"new key"), &None));
    assert_eq!(seen(&mut world, &id, &serial), Err(NodeRefusal::NotActive));
}

#[test]
fn an_evicted_node_needs_a_new_token() {
    let mut world = World::new();
    let id = world.join("web-1");
    let at = world.registry.revision();
    world.run(EvictNode { id: id.clone() }).unwrap();
    assert_eq!(seen(&mut world, &id, "01"), Err(NodeRefusal::NotAttested));
    assert_eq!(world.registry.view(&id), None);
    assert_eq!(world.registry.diff(&id, world.registry.log(), at), Follow::NoView);
    let again = join(&mut world, "web-1", "secret", "key", "02");
    assert_refused(&world, again, "there is no token of this node");
    assert!(matches!(world.run(EvictNode { id: id.clone() }), Err(Refusal::NotFound(_))));
    assert_eq!(world.join("web-1"), id);
    assert!(matches!(world.registry.diff(&id, world.registry.log(), at), Follow::Snapshot(_)));
}

#[test]
fn a_token_made_for_the_nodes_return_survives_its_eviction() {
    let mut world = World::new();
    let id = world.join("web-1");
    token(&mut world, "web-1", "second");
    world.run(EvictNode { id }).unwrap();
    assert!(join(&mut world, "web-1", "second", "key", "02").is_ok());
}

#[test]
fn a_banned_node_sees_nothing_and_its_name_gets_no_token_until_it_is_evicted() {
    let mut world = World::new();
    let id = world.join("web-1");
    world.create(entry("e", "/app", &any_node()));
    let serial = world.registry.node(&id).unwrap().serial.clone();
    token(&mut world, "web-1", "second");
    let at = world.registry.revision();
    world.run(BanNode { id: id.clone() }).unwrap();
    assert_eq!(seen(&mut world, &id, &serial), Err(NodeRefusal::Banned));
    assert_eq!(world.registry.view(&id), None);
    assert_eq!(world.registry.diff(&id, world.registry.log(), at), Follow::NoView);
    assert!(world.registry.in_view(&id, &crate::support::entry_id("e"), world.now).is_none());
    assert!(join(&mut world, "web-1", "second", "key", "02").is_err(), "a token from before counts no more");
    let ttl = Duration::from_secs(600);
    let refused = world.run(CreateToken { node: name("web-1"), secret_sha256: Sha256::of(b"s"), ttl });
    assert!(matches!(refused, Err(Refusal::Denied(why)) if why.contains("banned")));
    let commits = world.log.len();
    world.run(BanNode { id: id.clone() }).unwrap();
    assert_eq!(world.log.len(), commits);
    world.run(EvictNode { id }).unwrap();
    world.join("web-1");
}

#[test]
fn purging_forgets_nodes_that_did_not_return_and_keeps_bans() {
    let mut world = World::new();
    let gone = world.join("gone");
    let banned = world.join("banned");
    world.run(BanNode { id: banned.clone() }).unwrap();
    world.wait(7200);
    let present = world.join("present");
    let ended_before = world.now;
    assert_eq!(world.run(PurgeNodes { ended_before }), vec![gone.clone()]);
    assert!(world.registry.node(&gone).is_none() && world.registry.token(&name("gone")).is_none());
    assert!(world.registry.node(&banned).is_some() && world.registry.node(&present).is_some());
    assert_eq!(world.run(PurgeNodes { ended_before }), Vec::<SpiffeId>::new());
}

#[test]
fn an_unused_token_is_forgotten_a_day_after_its_end() {
    let mut world = World::new();
    token(&mut world, "web-1", "secret");
    world.wait(600 + 24 * 3600 - 1);
    assert_eq!(world.run(Expire), vec![]);
    world.wait(1);
    assert_eq!(world.run(Expire), [Key::Token(name("web-1"))]);
}

#[test]
fn a_nodes_selectors_open_the_aliases_that_stand_for_it() {
    let mut world = World::new();
    let blue = world.join_with("blue", &["x:blue", "x:big"]);
    let green = world.join_with("green", &["x:green"]);
    let alias = crate::support::entry_with(
        "alias",
        "/blues",
        &id("/spire/server"),
        serde_json::json!({ "selectors": ["x:blue"] }),
    );
    world.create(alias);
    world.create(entry("app", "/app", &id("/blues")));
    world.create(entry("below", "/below", &id("/app")));
    world.create(entry("all", "/all", &any_node()));
    assert_eq!(world.entries_of(&blue), ["all", "app", "below"]);
    assert_eq!(world.entries_of(&green), ["all"]);
}

#[test]
fn no_secret_reaches_the_log() {
    let mut world = World::new();
    let (text, hash) = JoinToken::mint(&name("web-1"), &[42; 32]);
    let secret = text.rsplit_once('.').unwrap().1;
    world
        .run(CreateToken { node: name("web-1"), secret_sha256: hash, ttl: Duration::from_secs(600) })
        .unwrap();
    join(&mut world, "web-1", secret, "key", "01").unwrap();
    let log = format!("{:?}", world.log);
    let leaves: String =
        world.log.iter().map(|commit| String::from_utf8_lossy(&commit.leaf).into_owned()).collect();
    assert!(!log.contains(secret) && !leaves.contains(secret));
}

/// SPIRE's flaw of 1.15.2: a second name outlived the node that had it.
#[test]
fn a_second_name_goes_with_the_node_that_a_token_gave_it() {
    let mut world = World::new();
    let node = world.join("n");
    let mut name = entry("name", "/rack/7", &node);
    name.selectors = well_known::itself(&node);
    world.create(name);
    world.create(entry("w", "/w", &id("/rack/7")));
    world.create(entry("own", "/own", &node));
    assert_eq!(world.entries_of(&node), ["name", "own", "w"]);
    world.run(EvictNode { id: node.clone() }).unwrap();
    let again = world.join("n");
    assert_eq!(again, node);
    assert_eq!(world.entries_of(&node), ["own"]);
}
