//! What an actor has read stays with it: no end, no beginning, no child and no launch makes it clean.

use integration_tests::guarded::{Agent, Guarded, is_denied};
use integration_tests::needs;
use serde_json::{Value, json};

use super::{clerk, file, text};

/// An actor that could send, and has read what must not be sent.
fn tainted(guarded: &Guarded) -> Agent {
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    let _ = agent.done("outbox/write_file", text(guarded, "outbox/clean.txt", "before"));
    let _ = agent.done("files/read_text_file", file(guarded, "docs/payroll.txt"));
    agent.denied("outbox/write_file", text(guarded, "outbox/secret.txt", "5000"), "label_exceeds_clearance");
    guarded.denied(&task, "outbox/write_file", "label_exceeds_clearance");
    agent
}

fn send(guarded: &Guarded) -> Value {
    json!(["call", "outbox", "write_file", text(guarded, "outbox/secret.txt", "5000")])
}

/// The task that was begun is live, and its send was refused and recorded.
fn still_refused(guarded: &Guarded, task: &str, answer: &Value) {
    assert!(is_denied(answer, "label_exceeds_clearance"), "{answer}");
    assert_eq!(guarded.read("outbox/secret.txt"), None);
    guarded.denied(task, "outbox/write_file", "label_exceeds_clearance");
    guarded.verified();
}

#[test]
fn ending_a_task_and_beginning_another_one_forgets_nothing() {
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    let mut agent = tainted(&guarded);
    agent.end();
    let task = agent.begin("desk");
    let answer = agent.ask(send(&guarded));
    still_refused(&guarded, &task, &answer);
}

#[test]
fn a_fork_that_begins_a_task_of_its_own_knows_what_its_parent_read() {
    descends("fork");
}

#[test]
fn a_grandchild_whose_parent_is_gone_knows_what_was_read() {
    descends("twice");
}

fn descends(how: &str) {
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    let mut agent = tainted(&guarded);
    agent.end();
    let did = agent.ask(json!([how, ["begin", "desk"], send(&guarded)]));
    let task = did["did"][0]["task"].as_str().unwrap_or_else(|| panic!("no task began: {did}"));
    still_refused(&guarded, task, &did["did"][1]);
}

#[test]
fn what_a_tainted_actor_launches_knows_what_it_read_after_its_task_and_during_it() {
    if !needs::root() {
        return;
    }
    let Some(guarded) = Guarded::up(&[("desk", clerk()), ("other", clerk())]) else { return };
    let mut agent = tainted(&guarded);
    for round in 0..2 {
        let before = guarded.tasks("other");
        let did = agent.ask(json!(["run", guarded.launch_words("other"), send(&guarded)]));
        let tasks = guarded.tasks("other");
        let task =
            tasks.iter().find(|task| !before.contains(task)).unwrap_or_else(|| panic!("no task: {did}"));
        still_refused(&guarded, task, &did["did"][0]);
        if round == 0 {
            agent.end();
        }
    }
}

#[test]
fn what_is_launched_from_outside_of_any_task_is_clean_beside_a_launch_that_is_not() {
    if !needs::root() {
        return;
    }
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    let (mut one, _) = guarded.launched("desk");
    let _ = one.done("files/read_text_file", file(&guarded, "docs/payroll.txt"));
    let (mut other, task) = guarded.launched("desk");
    let _ = other.done("outbox/write_file", text(&guarded, "outbox/clean.txt", "it knows nothing"));
    guarded.allowed(&task, "outbox/write_file", "executed");
    one.denied("outbox/write_file", text(&guarded, "outbox/secret.txt", "5000"), "label_exceeds_clearance");
}
