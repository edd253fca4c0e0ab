//! Clients and servers that others published, with the gate between them.

use integration_tests::guarded::{ACTOR, Agent, Guarded};
use integration_tests::{eventually, needs};
use serde_json::{Value, json};

use super::{file, tools};
use crate::SOON;

/// Reads documents, and adds small numbers.
fn reading() -> Value {
    let small = json!([{ "at_most": 100 }]);
    json!({ "scope": [
        { "tool": "files/read_text_file", "args": { "path": [{ "under": "@/docs" }] } },
        { "tool": "everything/get-sum", "args": { "a": small, "b": small } },
    ]})
}

/// What any actor in a task may do, whatever it speaks through, and nothing of it when the task is over.
fn works(guarded: &Guarded, agent: &mut Agent, task: &str) {
    assert_eq!(
        tools(agent, "files"),
        json!(["read_text_file"]),
        "of fourteen tools it sees the one in its scope"
    );
    assert_eq!(
        agent.done("files/read_text_file", file(guarded, "docs/plain.txt")),
        "The office opens at nine."
    );
    agent.denied("files/read_text_file", file(guarded, "agent/client.py"), "argument_out_of_scope");
    agent.denied("files/list_directory", file(guarded, "docs"), "out_of_scope");
    guarded.allowed(task, "files/read_text_file", "executed");
    guarded.denied(task, "files/read_text_file", "argument_out_of_scope");
    guarded.denied(task, "files/list_directory", "out_of_scope");
}

#[test]
fn the_published_client_reads_through_the_gate_what_its_task_allows_and_nothing_after_its_end() {
    let Some(guarded) = Guarded::up(&[("desk", reading())]) else { return };
    let mut agent = guarded.agent();
    agent.denied("files/read_text_file", file(&guarded, "docs/plain.txt"), "no_task");
    let task = agent.begin("desk");
    works(&guarded, &mut agent, &task);
    agent.end();
    agent.denied("files/read_text_file", file(&guarded, "docs/plain.txt"), "no_task");
    guarded.ended(&task, "done");
    guarded.stranger("files/read_text_file");
    guarded.verified();
}

#[test]
fn a_server_over_http_is_guarded_like_one_that_is_a_command() {
    let Some(guarded) = Guarded::up_with_everything(&[("desk", reading())]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    assert_eq!(tools(&mut agent, "everything"), json!(["get-sum"]));
    assert!(agent.done("everything/get-sum", json!({ "a": 40, "b": 2 })).contains("42"));
    agent.denied("everything/get-sum", json!({ "a": 4000, "b": 2 }), "argument_out_of_scope");
    agent.denied("everything/echo", json!({ "message": "x" }), "out_of_scope");
    agent.end();
    agent.denied("everything/get-sum", json!({ "a": 40, "b": 2 }), "no_task");
    guarded.allowed(&task, "everything/get-sum", "executed");
    guarded.denied(&task, "everything/get-sum", "argument_out_of_scope");
    guarded.verified();
}

#[test]
fn a_client_that_only_starts_commands_works_through_the_bridge_in_the_cgroup_of_its_task() {
    if !needs::root() {
        return;
    }
    let Some(guarded) = Guarded::up(&[("desk", reading())]) else { return };
    let (mut agent, task) = guarded.launched_with_bridge("desk");
    works(&guarded, &mut agent, &task);
    let _ = guarded.writ.run(&["task", "end", &task, "--why", "enough"]).done();
    agent.denied("files/read_text_file", file(&guarded, "docs/plain.txt"), "no_task");
    // Of a task that is one process, a command that it starts is no member.
    let mut alone = guarded.agent_with_bridge();
    let _ = alone.begin("desk");
    alone.denied("files/read_text_file", file(&guarded, "docs/plain.txt"), "no_task");
    guarded.verified();
}

#[test]
fn around_a_server_that_the_actor_starts_itself_is_the_same_gate_where_the_owner_names_the_actor() {
    if !needs::root() {
        return;
    }
    let Some(guarded) = Guarded::up(&[("desk", reading())]) else { return };
    guarded.apply(&json!({ "resources": [{
        "name": "files", "tenant": "acme", "enforcement_points": [ACTOR],
        "tools": { "read_text_file": { "effect": "read" }, "list_directory": { "effect": "read" } },
    }]}));
    let (mut agent, task) = guarded.launched_around_command("desk");
    eventually("the node knows who guards it now", SOON, || {
        (tools(&mut agent, "files") == json!(["read_text_file"])).then_some(())
    });
    works(&guarded, &mut agent, &task);
    guarded.recorded("that the gate stood in the actor's own domain", |record| {
        let guard = record["enforcement_point"].as_str().unwrap_or_default();
        record["task"] == task && record["decision"] == "allow" && guard.ends_with(ACTOR)
    });
    let _ = guarded.writ.run(&["task", "end", &task, "--why", "enough"]).done();
    agent.denied("files/read_text_file", file(&guarded, "docs/plain.txt"), "no_task");
    // Below an actor that is one process, a gate is no more the actor than any other child is a member of its task.
    let mut alone = guarded.agent_around_command();
    let _ = alone.begin("desk");
    let outside = file(&guarded, "docs/plain.txt");
    alone.denied("files/read_text_file", outside, "unregistered_enforcement_point");
    guarded.verified();
}
