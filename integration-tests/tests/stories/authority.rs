//! Authority on real processes: actors on the published MCP client, in front of published MCP servers, with the gate in
//! between. `docs/authority-attacks.md` has the table of the attacks among these stories.

mod agents;
mod chains;
mod credentials;
mod declassifying;
mod ends;
mod evidence;
mod laundering;
mod trees;

use integration_tests::guarded::{Agent, Guarded};
use serde_json::{Value, json};

/// A file in front of the gate, as a tool's argument.
fn file(guarded: &Guarded, name: &str) -> Value {
    json!({ "path": guarded.path(name) })
}

/// What is written there.
fn text(guarded: &Guarded, name: &str, content: &str) -> Value {
    json!({ "path": guarded.path(name), "content": content })
}

/// The tools that an actor sees.
fn tools(agent: &mut Agent, resource: &str) -> Value {
    agent.ask(json!(["list", resource]))["tools"].clone()
}

/// Terms of a clerk: it reads documents, keeps notes and sends what may leave the house.
fn clerk() -> Value {
    json!({ "scope": [
        { "tool": "files/read_text_file", "args": { "path": [{ "under": "@/docs" }] } },
        { "tool": "notes/read_text_file", "args": { "path": [{ "under": "@/notes" }] } },
        { "tool": "notes/write_file", "args": { "path": [{ "under": "@/notes" }], "content": [] } },
        { "tool": "outbox/write_file", "args": { "path": [{ "under": "@/outbox" }], "content": [] } },
        { "tool": "everything/trigger-long-running-operation" },
    ]})
}

/// A call that takes a minute, if nobody ends it.
fn long() -> Value {
    json!(["call", "everything", LONG.split_once('/').expect("a tool has a resource").1, { "duration": 60, "steps": 6 }])
}

const LONG: &str = "everything/trigger-long-running-operation";
