//! What takes authority away while a call is under way, and what happens where nobody can decide or record.

use integration_tests::guarded::{Guarded, Setting, is_denied};
use integration_tests::{Folder, eventually, needs};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{LONG, clerk, file, long, text};
use crate::SOON;
use crate::full_disk::SmallDisk;

/// A19: the actor is disabled in the middle of a long call, after decisions that somebody may remember.
#[test]
fn a_disabled_actors_long_call_is_cut_and_what_was_permitted_before_is_not_any_more() {
    let Some(guarded) = Guarded::up_with_everything(&[("desk", clerk())]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    for _ in 0..3 {
        let _ = agent.done("files/read_text_file", file(&guarded, "docs/plain.txt"));
    }
    agent.say(long());
    guarded.recorded("that the long call was permitted", |record| {
        record["tool"] == LONG && record["decision"] == "allow"
    });
    let began = std::time::Instant::now();
    let _ = guarded.writ.run(&["actor", "disable", "/agent/clerk", "--why", "it ran wild"]).done();
    let answer = agent.hear();
    assert!(began.elapsed() < SOON && is_denied(&answer, "task_ended"), "{answer}");
    agent.denied("files/read_text_file", file(&guarded, "docs/plain.txt"), "no_task");
    assert!(agent.ask(json!(["begin", "desk"]))["refused"].is_string(), "none begins");
    guarded.ended(&task, "actor_disabled");
    let outcome = guarded.recorded("that nobody knows what the server did", |record| {
        record["tool"] == LONG && record["kind"] == "outcome" && record["outcome"] == "unknown"
    });
    let closed = guarded.recorded("that nothing of it is open", |record| {
        record["kind"] == "task.close" && record["task"] == task.as_str()
    });
    assert!(outcome["seq"].as_u64() < closed["seq"].as_u64(), "{closed} after {outcome}");
    guarded.verified();
}

/// A21: the node of a task becomes another environment, and the actor says that it did not.
#[test]
fn a_task_does_not_follow_its_node_into_another_environment_whatever_the_actor_says() {
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    let _ = agent.done("files/read_text_file", file(&guarded, "docs/plain.txt"));
    let _ = guarded.writ.run(&["node", "set-environment", "local", "prod"]).done();
    guarded.ended(&task, "environment_changed");
    agent.denied("files/read_text_file", file(&guarded, "docs/plain.txt"), "no_task");
    for params in [json!({}), json!({ "environment": "default" }), json!({ "env": "default" })] {
        let begun = agent.ask(json!(["begin", "desk", params]));
        assert!(begun["refused"].is_string(), "{params}: {begun}");
    }
    guarded.recorded("that it ended for that", |record| {
        record["facts"]["tasks"][0]["state"]["reason"] == "environment_changed"
            || record["reason"] == "environment_changed"
    });
    guarded.verified();
}

/// A22: whoever decides is stopped or dead.
#[test]
fn while_the_agent_of_the_node_is_stopped_or_dead_nothing_is_forwarded() {
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    let write = |name: &str| text(&guarded, name, "x");
    let _ = agent.done("outbox/write_file", write("outbox/before.txt"));
    guarded.writ.signal("agent", Signal::SIGSTOP);
    let answer = agent.call("outbox/write_file", write("outbox/stopped.txt"));
    assert_eq!(
        (&answer["code"], &answer["data"]["reason"]),
        (&json!(-32603), &json!("unreachable")),
        "{answer}"
    );
    guarded.writ.signal("agent", Signal::SIGCONT);
    eventually("it decides again", SOON, || {
        let answer = agent.call("outbox/write_file", write("outbox/again.txt"));
        (answer["failed"] == false).then_some(())
    });
    guarded.writ.kill("agent");
    let answer = agent.call("outbox/write_file", write("outbox/dead.txt"));
    // It may be back already; then it has decided by what it kept. What is refused is not done in either case.
    assert_eq!(answer["failed"] == false, guarded.read("outbox/dead.txt").is_some(), "{answer}");
    assert_eq!(guarded.read("outbox/stopped.txt"), None);
    eventually("another one goes on with the task", SOON, || {
        let answer = agent.call("outbox/write_file", write("outbox/after.txt"));
        (answer["failed"] == false).then_some(())
    });
    guarded.allowed(&task, "outbox/write_file", "executed");
    guarded.verified();
}

/// A22: there is no room for a record.
#[test]
fn without_room_for_its_record_no_call_is_permitted_and_a_task_ends_all_the_same() {
    if !needs::root() {
        return;
    }
    let outside = Folder::new();
    let disk = SmallDisk::new(outside.join("disk"));
    let mut busy = clerk();
    busy["budgets"] = json!({ "actions": 9999 });
    let setting =
        Setting { mandates: &[("desk", busy)], data: Some(outside.join("disk/d")), ..Setting::default() };
    let Some(guarded) = Guarded::up_with(&setting) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    let _ = agent.done("outbox/write_file", text(&guarded, "outbox/before.txt", "x"));
    let filler = disk.fill();
    // What the spool has reserved already takes some.
    let read = file(&guarded, "docs/plain.txt");
    let answer = agent.ask(json!(["again", 9000, "files", "read_text_file", read]));
    assert!(is_denied(&answer, "unrecorded"), "{answer}");
    agent.denied("outbox/write_file", text(&guarded, "outbox/full.txt", "x"), "unrecorded");
    assert_eq!(guarded.read("outbox/full.txt"), None, "what cannot be recorded is not done");
    agent.end();
    agent.denied("files/read_text_file", file(&guarded, "docs/plain.txt"), "no_task");
    std::fs::remove_file(filler).expect("it is ours");
    let next = eventually("there is room again", SOON, || {
        let begun = agent.ask(json!(["begin", "desk"]));
        begun["task"].as_str().map(str::to_owned)
    });
    let _ = agent.done("files/read_text_file", file(&guarded, "docs/plain.txt"));
    guarded.allowed(&next, "files/read_text_file", "executed");
    guarded.ended(&task, "done");
    guarded.verified();
}
