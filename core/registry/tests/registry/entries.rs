//! What may become an entry, and what the asker learns.

use std::time::{Duration, Instant};

use crate::support::{World, any_node, entry, entry_id, entry_with, id};
use registry::{
    Key, Refusal, Registry, Settings, Stored,
    decide::{
        entry::{CreateEntries, DeleteEntries, Effect, EntryOutcome, UpdateEntries, UpsertEntries, Wanted},
        expire::Expire,
    },
    objects::{Entry, EntryPatch, Sha256, well_known},
};
use serde_json::{Value, json};
use spiffe::{SpiffeId, Timestamp};

fn update(world: &mut World, name: &str, patch: EntryPatch) -> EntryOutcome {
    world.run(UpdateEntries { updates: vec![(entry_id(name), patch)] }).remove(0)
}

fn upsert(world: &mut World, entry: Entry, names_id: bool) -> EntryOutcome {
    world.run(UpsertEntries { entries: vec![Wanted { entry, names_id }] }).remove(0)
}

#[track_caller]
fn assert_invalid(fields: Value, says: &str) {
    let mut world = World::new();
    let outcome = world.create(entry_with("e", "/app", &any_node(), fields));
    match outcome.result {
        Err(Refusal::Invalid(why)) => assert!(why.contains(says), "{why:?} does not say {says:?}"),
        other => panic!("not refused as invalid: {other:?}"),
    }
    assert_eq!(world.registry.entries().len(), 0);
    assert_eq!(world.last_record()["outcome"], "refused");
}

#[test]
fn a_new_entry_begins_at_version_1_now() {
    let mut world = World::new();
    world.join("web-1");
    let outcome = world.create(entry("e", "/app", &id("/spire/agent/join_token/web-1")));
    assert_eq!((outcome.result, outcome.warnings), (Ok(Effect::Created), vec![]));
    let stored = outcome.entry.unwrap();
    assert_eq!((stored.version, stored.created_at), (1, world.now));
    assert_eq!(world.last_record()["facts"]["items"][0]["effect"], "created");
}

#[test]
fn a_similar_entry_is_named_and_nothing_is_created() {
    let mut world = World::new();
    world.create(entry("first", "/app", &any_node()));
    let again = world.create(entry_with("second", "/app", &any_node(), json!({ "hint": "other" })));
    assert!(
        matches!(&again.result, Err(Refusal::AlreadyExists(why)) if why.starts_with("similar entry already exists"))
    );
    assert_eq!(again.entry.unwrap().id, entry_id("first"));
    let taken = world.create(entry("first", "/other", &any_node()));
    assert!(matches!(taken.result, Err(Refusal::AlreadyExists(_))));
    assert_eq!(world.registry.entries().len(), 1);
}

#[test]
fn items_of_a_batch_see_those_before_them_and_fail_alone() {
    let mut world = World::new();
    let batch = vec![
        entry("a", "/a", &any_node()),
        entry("b", "/spire/server", &any_node()),
        entry("c", "/a", &any_node()), // similar to the first
        entry("a", "/d", &any_node()), // the first one's id
        entry("e", "/e", &any_node()),
    ];
    let outcomes = world.run(CreateEntries { entries: batch });
    let done: Vec<bool> = outcomes.iter().map(|outcome| outcome.result.is_ok()).collect();
    assert_eq!(done, [true, false, false, false, true]);
    assert_eq!(world.log.len(), 1, "what succeeds is one commit");
    assert_eq!(world.registry.entries().len(), 2);
}

#[test]
fn ids_outside_the_trust_domain_or_in_reserved_places_are_refused() {
    assert_invalid(json!({ "spiffe_id": "spiffe://other.example/app" }), "not in the trust domain");
    assert_invalid(json!({ "parent_id": "spiffe://other.example/spire/server" }), "not in the trust domain");
    assert_invalid(json!({ "spiffe_id": "spiffe://acme.example" }), "no path");
    assert_invalid(json!({ "parent_id": "spiffe://acme.example" }), "no path");
    for path in
        ["/spire", "/spire/server", "/spire/agent/join_token/x", "/writ", "/writ/any-node", "/writ/nodes/0"]
    {
        assert_invalid(json!({ "spiffe_id": id(path) }), "reserved");
    }
    for path in ["/task", "/app/task/01", "/app/task"] {
        assert_invalid(json!({ "spiffe_id": id(path) }), "task");
    }
    let mut world = World::new();
    for (name, path) in [("a", "/spires"), ("b", "/x/spire/y"), ("c", "/tasks"), ("d", "/writing")] {
        assert_eq!(world.create(entry(name, path, &any_node())).result, Ok(Effect::Created), "{path}");
    }
}

#[test]
fn only_a_node_alias_may_have_the_id_of_its_own_selectors() {
    let mut world = World::new();
    let trust_domain = world.registry.trust_domain().clone();
    let selectors = ["k8s_psat:cluster:blue".parse().unwrap()].into();
    let alias_id = well_known::node_alias(&trust_domain, &selectors);
    let server = well_known::server(&trust_domain);
    let alias = Entry { selectors, ..entry("alias", alias_id.path(), &server) };
    let foreign =
        Entry { selectors: ["x:y".parse().unwrap()].into(), id: entry_id("foreign"), ..alias.clone() };
    let misplaced = Entry { parent_id: any_node(), id: entry_id("misplaced"), ..alias.clone() };
    assert!(matches!(world.create(foreign).result, Err(Refusal::Invalid(_))));
    assert!(matches!(world.create(misplaced).result, Err(Refusal::Invalid(_))));
    let made = world.create(alias);
    assert_eq!((made.result, made.warnings), (Ok(Effect::Created), vec![]));
}

#[test]
fn fields_are_bounded_and_checked() {
    assert_invalid(json!({ "selectors": [] }), "at least one selector");
    let many: Vec<String> = (0..129).map(|n| format!("unix:gid:{n}")).collect();
    assert_invalid(json!({ "selectors": many }), "129 items");
    let long: Vec<String> = (0..9).map(|n| format!("x:{n}{}", "y".repeat(4000))).collect();
    assert_invalid(json!({ "selectors": long }), "bytes");
    assert_invalid(json!({ "hint": "h".repeat(1025) }), "hint of 1025 bytes");
    assert_invalid(json!({ "x509_svid_ttl": u32::MAX }), "seconds");
    assert_invalid(json!({ "expires_at": "2026-01-01T00:00:00Z" }), "past");
    assert_invalid(json!({ "store_svid": true, "selectors": ["a:b", "c:d"] }), "one kind");
    assert_invalid(json!({ "federates_with": ["acme.example"] }), "this trust domain");
    let long_label = format!("{}.example", "a".repeat(64));
    for name in
        ["", ".", "a..b", "-a", "a-", "a b", "a,b", "*", "*.*.b", "a.*.b", "10.0.0.1", "ä", &long_label]
    {
        assert_invalid(json!({ "dns_names": [name] }), "is not a DNS name");
    }
    let mut world = World::new();
    let names =
        json!({ "dns_names": ["localhost", "db_1.acme.example", "*.acme.example", "1.example", "A-b.C"] });
    assert_eq!(world.create(entry_with("e", "/app", &any_node(), names)).result, Ok(Effect::Created));
}

#[test]
fn a_federated_trust_domain_needs_its_bundle_first() {
    let mut world = World::new();
    let wanted = entry_with("e", "/app", &any_node(), json!({ "federates_with": ["other.example"] }));
    assert!(
        matches!(world.create(wanted).result, Err(Refusal::Precondition(why)) if why.contains("other.example"))
    );
}

#[test]
fn a_ttl_beyond_a_sixth_of_the_authoritys_is_capped_and_both_figures_are_said() {
    let mut world = World::new();
    let long = world.create(entry_with("long", "/long", &any_node(), json!({ "x509_svid_ttl": 8 * 3600 })));
    assert_eq!(
        long.warnings,
        ["x509_svid_ttl of 8h is more than a sixth of ca_ttl (1day), so its SVIDs live 4h"]
    );
    let short = world.create(entry_with("short", "/short", &any_node(), json!({ "x509_svid_ttl": 60 })));
    assert_eq!(short.warnings, Vec::<String>::new());
    let settings = world.registry.settings();
    assert_eq!(settings.x509_svid_ttl_of(&long.entry.unwrap()), Duration::from_secs(4 * 3600));
    assert_eq!(settings.x509_svid_ttl_of(&short.entry.unwrap()), Duration::from_secs(60));
    let hasty = Settings { ca_ttl: Duration::from_secs(60), ..settings.clone() };
    let default = entry("default", "/default", &any_node());
    assert_eq!(hasty.x509_svid_ttl_of(&default), Duration::from_secs(10));
}

#[test]
fn a_parent_that_no_node_answers_to_is_allowed_with_a_warning() {
    let mut world = World::new();
    let node = world.join("web-1");
    let warned =
        |outcome: &EntryOutcome| outcome.warnings.iter().any(|text| text.contains("no node answers"));
    assert!(!warned(&world.create(entry("a", "/a", &node))));
    assert!(!warned(&world.create(entry("b", "/b", &any_node()))));
    assert!(!warned(&world.create(entry("c", "/c", &id("/a")))), "an entry below another one");
    assert!(warned(&world.create(entry("d", "/d", &id("/spire/agent/join_token/web-2")))));
    assert!(warned(&world.create(entry("e", "/e", &id("/nobody")))));
    // The batch brings the parent itself, after its child.
    let batch = vec![entry("f", "/f", &id("/g")), entry("g", "/g", &node)];
    assert!(!world.run(CreateEntries { entries: batch }).iter().any(warned));
}

#[test]
fn a_parent_built_from_a_whole_token_is_kept_without_the_secret() {
    let mut world = World::new();
    let secret = "s".repeat(43);
    let parent = id(&format!("/spire/agent/join_token/web.1.{secret}"));
    let outcome = world.create(entry("e", "/app", &parent));
    assert_eq!(outcome.entry.as_ref().unwrap().parent_id, id("/spire/agent/join_token/web.1"));
    assert!(!format!("{outcome:?} {:?}", world.log).contains(&secret));
    let foreign: SpiffeId =
        format!("spiffe://other.example/spire/agent/join_token/web.1.{secret}").parse().unwrap();
    let refused = world.create(entry("f", "/other", &foreign));
    assert!(!format!("{refused:?} {:?}", world.log).contains(&secret));
}

#[test]
fn an_update_changes_what_it_names_and_counts_versions() {
    let mut world = World::new();
    world.create(entry_with("e", "/app", &any_node(), json!({ "hint": "h", "admin": true })));
    let patch = EntryPatch { x509_svid_ttl: Some(60), hint: Some(String::new()), ..EntryPatch::default() };
    let outcome = update(&mut world, "e", patch.clone());
    assert_eq!(outcome.result, Ok(Effect::Updated));
    let stored = outcome.entry.unwrap();
    assert_eq!((stored.version, stored.x509_svid_ttl, stored.hint.as_str(), stored.admin), (2, 60, "", true));
    let commits = world.log.len();
    assert_eq!(update(&mut world, "e", patch.clone()).result, Ok(Effect::Unchanged));
    assert_eq!(world.log.len(), commits, "what changes nothing is not committed");
    assert!(matches!(update(&mut world, "f", patch).result, Err(Refusal::NotFound(_))));
    let wrong = EntryPatch { selectors: Some(Default::default()), ..EntryPatch::default() };
    assert!(matches!(update(&mut world, "e", wrong).result, Err(Refusal::Invalid(_))));
}

#[test]
fn an_update_into_the_place_of_another_entry_is_refused() {
    let mut world = World::new();
    world.create(entry("a", "/a", &any_node()));
    world.create(entry("b", "/b", &any_node()));
    let patch = EntryPatch { spiffe_id: Some(id("/a")), ..EntryPatch::default() };
    let refused = update(&mut world, "b", patch.clone());
    assert!(matches!(refused.result, Err(Refusal::AlreadyExists(_))));
    assert_eq!(refused.entry.unwrap().id, entry_id("a"));
    // In one batch the other one makes room first.
    let away = EntryPatch { spiffe_id: Some(id("/c")), ..EntryPatch::default() };
    let outcomes = world.run(UpdateEntries { updates: vec![(entry_id("a"), away), (entry_id("b"), patch)] });
    assert!(outcomes.iter().all(|outcome| outcome.result == Ok(Effect::Updated)));
}

#[test]
fn applying_a_declaration_twice_changes_nothing_the_second_time() {
    let mut world = World::new();
    let declared = |fresh: &str, hint: &str| entry_with(fresh, "/app", &any_node(), json!({ "hint": hint }));
    assert_eq!(upsert(&mut world, declared("id-1", "h"), false).result, Ok(Effect::Created));
    world.wait(60);
    let again = upsert(&mut world, declared("id-2", "h"), false);
    assert_eq!((again.result, again.entry.unwrap().id.as_str()), (Ok(Effect::Unchanged), "id-1"));
    let changed = upsert(&mut world, declared("id-3", "other"), false);
    assert_eq!((changed.result, changed.entry.unwrap().version), (Ok(Effect::Updated), 2));
    assert_eq!(upsert(&mut world, entry("id-1", "/moved", &any_node()), true).result, Ok(Effect::Updated));
    assert_eq!(upsert(&mut world, entry("id-9", "/app", &any_node()), true).result, Ok(Effect::Created));
    let taken = upsert(&mut world, entry("id-1", "/app", &any_node()), true);
    assert!(matches!(taken.result, Err(Refusal::AlreadyExists(_))), "id-9 is in its place");
}

#[test]
fn deleting_answers_for_each_entry() {
    let mut world = World::new();
    world.create(entry("a", "/a", &any_node()));
    let outcomes = world.run(DeleteEntries { ids: ["a", "a", "b"].map(entry_id).into() });
    assert_eq!(outcomes[0].result, Ok(Effect::Deleted));
    assert!(outcomes[1..].iter().all(|outcome| matches!(outcome.result, Err(Refusal::NotFound(_)))));
    assert_eq!(world.create(entry("a", "/a", &any_node())).entry.unwrap().version, 1);
}

#[test]
fn an_entry_leaves_the_view_when_it_ends_and_signing_refuses_it_at_once() {
    let mut world = World::new();
    let node = world.join("web-1");
    let end = world.now + Duration::from_secs(60);
    world.create(entry_with("parent", "/parent", &node, json!({ "expires_at": end })));
    world.create(entry("child", "/child", &id("/parent")));
    assert_eq!(world.registry.next_end(), Some(end), "before the token is forgotten");
    assert_eq!(world.run(Expire), vec![]);
    let child = entry_id("child");
    assert!(world.registry.in_view(&node, &child, world.now).is_some());
    world.wait(60);
    assert!(world.registry.in_view(&node, &entry_id("parent"), world.now).is_none());
    assert!(world.registry.in_view(&node, &child, world.now).is_none(), "its way leads through what ended");
    assert_eq!(world.entries_of(&node), ["child", "parent"], "a view follows the log, not the clock");
    assert_eq!(world.run(Expire), [Key::Entry(entry_id("parent"))]);
    assert_eq!(world.entries_of(&node), Vec::<String>::new());
    assert!(world.registry.next_end().is_none_or(|next| next > world.now));
}

#[test]
fn the_audit_log_tells_what_was_done_but_not_the_selectors() {
    let mut world = World::new();
    let canary = "docker:env:PASSWORD=canary";
    world.create(entry_with("e", "/app", &any_node(), json!({ "selectors": [canary], "admin": true })));
    let leaf = String::from_utf8(world.log[0].leaf.clone()).unwrap();
    assert!(!leaf.contains("canary"), "{leaf}");
    let record = world.last_record();
    assert_eq!(
        (&record["kind"], &record["seq"], &record["outcome"]),
        (&json!("entry.create"), &json!(1), &json!("done"))
    );
    let item = &record["facts"]["items"][0];
    assert_eq!((&item["spiffe_id"], &item["admin"]), (&json!(id("/app")), &json!(true)));
    let stored = world.registry.object(&Key::Entry(entry_id("e"))).unwrap();
    assert_eq!(item["sha256"], json!(Sha256::of(&stored.object.to_json())));
}

/// The cost of a batch follows the batch: with a hundred times more entries there, a linear cost
/// would be a hundred times higher.
#[test]
fn a_batch_costs_no_more_with_many_entries_there() {
    let mut world = World::new();
    let node = world.join("web-1");
    // Scattered names, as random UUIDs are.
    let name = |n: u64| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let made = |n: u64| entry(&name(n), &format!("/app/{n}"), &node);
    let best_of_five = |world: &mut World, first: u64| {
        let batch = |start: u64| (start..start + 500).map(made).collect();
        let costs = (0..5).map(|round| {
            let entries = batch(first + round * 500);
            let start = Instant::now();
            assert!(world.run(CreateEntries { entries }).iter().all(|outcome| outcome.result.is_ok()));
            start.elapsed()
        });
        costs.min().unwrap()
    };
    let few = best_of_five(&mut world, 0);
    let registry = &world.registry;
    let there = registry.entries().map(Stored::from).chain(registry.nodes().map(Stored::from));
    let more = (2500..100_000).map(|n| Stored { version: 1, object: made(n).into() });
    let (settings, log) = (registry.settings().clone(), registry.log().clone());
    world.registry =
        Registry::restore(settings, log, registry.revision(), there.chain(more).collect::<Vec<_>>());
    let many = best_of_five(&mut world, 100_000);
    assert_eq!(world.registry.entries().len(), 102_500);
    assert!(many < few * 20, "{few:?} with a few, {many:?} with 100,000");
}

#[test]
fn times_in_json_are_rfc_3339() {
    let end = Timestamp::from_unix_seconds(1_900_000_000);
    let written =
        serde_json::to_value(entry_with("e", "/app", &any_node(), json!({ "expires_at": end }))).unwrap();
    assert_eq!(written["expires_at"], "2030-03-17T17:46:40Z");
    assert_eq!(written["created_at"], "2026-01-01T00:00:00Z");
}
