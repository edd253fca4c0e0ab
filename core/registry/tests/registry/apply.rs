//! Commits are applied whole and in order, and views are followed only from where that is exact.

use crate::support::{World, any_node, entry, entry_id, id};
use registry::{
    Author, Change, Commit, Follow, Key, LogId, Revision,
    decide::{
        entry::DeleteEntries,
        issuance::{Issued, RecordIssued},
    },
};

fn commit(world: &World, changes: Vec<Change>) -> Commit {
    let revision = world.registry.revision().next();
    Commit { revision, at: world.now, author: Author::Server, changes, leaf: Vec::new() }
}

#[test]
fn what_does_not_follow_is_refused_whole() {
    let mut world = World::new();
    world.create(entry("a", "/a", &any_node()));
    let put = |name: &str, version| Change::Put { version, object: entry(name, "/x", &any_node()).into() };
    let before = format!("{:?}", world.registry);
    let gap = Commit { revision: Revision(3), ..commit(&world, vec![]) };
    assert!(world.registry.apply(&gap).is_err());
    let again = Commit { revision: Revision(1), ..commit(&world, vec![]) };
    assert!(world.registry.apply(&again).is_err());
    for wrong in [put("a", 1), put("a", 3), put("b", 2), Change::Delete(Key::Entry(entry_id("b")))] {
        let half = commit(&world, vec![put("c", 1), wrong]);
        assert!(world.registry.apply(&half).is_err());
    }
    assert_eq!(format!("{:?}", world.registry), before);
}

#[test]
fn a_draft_leaves_the_registry_that_it_came_from_alone() {
    let mut world = World::new();
    world.create(entry("a", "/a", &any_node()));
    let published = world.registry.clone();
    world.run(DeleteEntries { ids: vec![entry_id("a")] });
    assert!(published.entry(&entry_id("a")).is_some());
    assert!(world.registry.entry(&entry_id("a")).is_none());
}

#[test]
fn a_view_from_another_log_or_from_the_future_is_sent_anew() {
    let mut world = World::new();
    let node = world.join("web-1");
    let (log, at) = (world.registry.log().clone(), world.registry.revision());
    assert_eq!(world.registry.diff(&node, &log, at), Follow::UpToDate);
    assert!(matches!(world.registry.diff(&node, &LogId("other".to_owned()), at), Follow::Snapshot(_)));
    assert!(matches!(world.registry.diff(&node, &log, at.next()), Follow::Snapshot(_)));
    assert!(matches!(world.registry.diff(&node, &log, Revision(0)), Follow::Snapshot(_)));
    assert_eq!(world.registry.diff(&id("/spire/agent/join_token/other"), &log, at), Follow::NoView);
}

#[test]
fn what_concerns_other_nodes_moves_a_view_on_without_content() {
    let mut world = World::new();
    let (one, other) = (world.join("one"), world.join("other"));
    let at = world.registry.revision();
    world.create(entry("e", "/app", &other));
    match world.registry.diff(&one, world.registry.log(), at) {
        Follow::Delta(delta) => {
            assert_eq!((delta.to, delta.put, delta.gone), (world.registry.revision(), vec![], vec![]));
        }
        unexpected => panic!("{unexpected:?}"),
    }
    let touched = world.registry.touched_since(at).unwrap().next().unwrap();
    assert!(touched.concerns(&other) && !touched.concerns(&one));
}

#[test]
fn issuance_goes_on_record_and_wakes_nobody() {
    let mut world = World::new();
    let node = world.join("web-1");
    let at = world.registry.revision();
    let not_after = world.now;
    let item =
        Issued { entry: Some(entry_id("e")), spiffe_id: id("/app"), serial: "0a".to_owned(), not_after };
    world.run(RecordIssued { authority: "aa".parse().unwrap(), items: vec![item] });
    assert_eq!(world.registry.revision(), at.next());
    assert_eq!(world.registry.touched_since(at).unwrap().count(), 0);
    assert_eq!(world.last_record()["facts"]["items"][0]["serial"], "0a");
    assert!(
        matches!(world.registry.diff(&node, world.registry.log(), at), Follow::Delta(delta) if delta.put.is_empty())
    );
}

#[test]
fn history_is_bounded_and_older_views_are_sent_anew() {
    let mut world = World::new();
    let node = world.join("web-1");
    let at = world.registry.revision();
    let name = entry_id("e");
    for version in 1..=10_000 {
        let put = Change::Put { version, object: entry("e", "/app", &node).into() };
        let next = commit(&world, vec![put]);
        world.registry.apply(&next).unwrap();
    }
    let log = world.registry.log().clone();
    assert!(matches!(world.registry.diff(&node, &log, at), Follow::Snapshot(_)));
    assert!(world.registry.touched_since(at).is_none());
    let recent = Revision(world.registry.revision().0 - 100);
    match world.registry.diff(&node, &log, recent) {
        Follow::Delta(delta) => assert_eq!(delta.put.len(), 1, "a hundred changes of one entry are one"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.registry.entry(&name).unwrap().version, 10_000);
}
