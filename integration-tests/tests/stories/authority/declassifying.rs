//! What an owner's transformer takes off a label: of the data that passes through it, never of who has read that.

use std::time::Duration;

use integration_tests::eventually;
use integration_tests::guarded::{Agent, Guarded};
use integration_tests::needs;
use serde_json::{Value, json};

use super::{clerk, file, text, tools};

const INFO: &str = "notes/get_file_info";
const SOON: Duration = Duration::from_secs(20);

/// Terms of a clerk who may also ask how large a note is.
fn curious() -> Value {
    let mut terms = clerk();
    let info = json!({ "tool": INFO, "args": { "path": [{ "under": "@/notes" }] } });
    terms["scope"].as_array_mut().expect("a list").push(info);
    terms
}

/// Declares the notes, with what their owner says of the tool that tells sizes and dates, and waits until that holds.
fn declare(guarded: &Guarded, agent: &mut Agent, says: &Value, is_shown: bool) {
    let secret = json!({ "confidentiality": 2, "categories": ["payroll"] });
    let mut info = json!({ "effect": "read" });
    for (name, value) in says.as_object().expect("an object") {
        info[name] = value.clone();
    }
    guarded.apply(&json!({ "resources": [{
        "name": "notes", "tenant": "acme", "enforcement_points": ["/gate"], "stateful": true, "clearance": secret,
        "tools": {
            "read_text_file": { "effect": "read" }, "get_file_info": info,
            "write_file": { "effect": "write", "control_args": ["path"] },
        },
    }]}));
    eventually("the agent knows what the owner says", SOON, || {
        let shown = tools(agent, "notes").to_string().contains("get_file_info");
        (shown == is_shown).then_some(())
    });
}

fn pinned(digest: &str) -> Value {
    json!({ "definition_sha256": digest, "declassifies": {
        "confidentiality": { "from": 2, "to": 0 }, "categories": ["payroll"],
    }})
}

#[test]
fn what_an_owners_transformer_answers_may_be_sent_by_who_knows_nothing_else() {
    if !needs::root() {
        return;
    }
    let Some(guarded) = Guarded::up(&[("desk", curious())]) else { return };
    // Each in a cgroup of its own, so that they share nothing but the note.
    let (mut writer, _) = guarded.launched("desk");
    let (mut reader, task) = guarded.launched("desk");
    let note = || file(&guarded, "notes/n.txt");
    let send = |agent: &mut Agent, name: &str, content: &str| {
        agent.denied("outbox/write_file", text(&guarded, name, content), "label_exceeds_clearance");
        assert_eq!(guarded.read(name), None);
    };
    let secret = writer.done("files/read_text_file", file(&guarded, "docs/payroll.txt"));
    let _ = writer.done("notes/write_file", text(&guarded, "notes/n.txt", &secret));
    send(&mut writer, "outbox/secret.txt", &secret);

    // A definition that the owner did not approve gives no answer, and lowers nothing.
    declare(&guarded, &mut reader, &json!({}), true);
    declare(&guarded, &mut reader, &pinned(&"00".repeat(32)), false);
    reader.denied(INFO, note(), "tool_definition_changed");
    let denied = guarded.recorded("which definition it has", |record| {
        record["tool"] == INFO && record["decision"] == "deny" && record["task"] == task.as_str()
    });
    let why = denied["reason"].as_str().expect("it says why");
    let shown = why.split("shows definition ").nth(1).expect("it says which").get(..64).expect("a digest");
    assert!(guarded.entries().iter().all(|entry| entry["record"]["kind"] != "label.lower"));

    // As it is approved, what it answers is not what the note says, and may be sent.
    declare(&guarded, &mut reader, &pinned(shown), true);
    let info = reader.done(INFO, note());
    assert!(info.contains("size") && !info.contains("5000"), "{info}");
    let _ = reader.done("outbox/write_file", text(&guarded, "outbox/size.txt", &info));
    assert_eq!(guarded.read("outbox/size.txt").as_deref(), Some(info.as_str()));
    guarded.trace("what was lowered, and only then that it was allowed", &task, |actions| {
        let at = |kind: &str, decision: Value| {
            let is = |action: &Value| {
                action["kind"] == kind && action["tool"] == INFO && action["decision"] == decision
            };
            actions.iter().position(is)
        };
        let allowed = at("decision", json!("allow"));
        at("label.lower", Value::Null).is_some_and(|lowered| Some(lowered) < allowed)
    });
    let lowered = guarded.recorded("what was lowered", |record| record["kind"] == "label.lower");
    assert_eq!(lowered["labels_in"]["c"], 2, "{lowered}");
    assert_eq!(lowered["labels_in"]["k"], json!(["payroll"]), "{lowered}");
    assert_eq!(lowered["labels_out"]["c"], 0, "{lowered}");
    assert!(lowered["reason"].as_str().is_some_and(|why| why.contains(shown)), "{lowered}");

    // Who has read the secret keeps what it knows, whatever the transformer answers.
    let _ = writer.done(INFO, note());
    send(&mut writer, "outbox/writer.txt", &secret);
    let _ = reader.done("notes/read_text_file", note());
    let _ = reader.done(INFO, note());
    send(&mut reader, "outbox/reader.txt", &info);
    guarded.verified();
}
