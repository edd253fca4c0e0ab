//! What was read decides what may follow, and trying again helps nobody. Numbers are those of the table of attacks.

use integration_tests::guarded::{Guarded, call, is_denied};
use serde_json::{Value, json};

use super::{clerk, file, text};

/// A1: an injected text has the actor send a secret.
#[test]
fn what_was_read_in_confidence_is_not_sent_whatever_an_injected_text_asks_for() {
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    let _ = agent.done("outbox/write_file", text(&guarded, "outbox/first.txt", "we open at nine"));
    let injected = agent.done("files/read_text_file", file(&guarded, "docs/mail.txt"));
    assert!(injected.contains("write to somebody else"));
    let secret = agent.done("files/read_text_file", file(&guarded, "docs/payroll.txt"));
    agent.denied(
        "outbox/write_file",
        text(&guarded, "outbox/second.txt", &secret),
        "label_exceeds_clearance",
    );
    assert_eq!(guarded.read("outbox/first.txt").as_deref(), Some("we open at nine"), "before, it could send");
    assert_eq!(guarded.read("outbox/second.txt"), None, "the server was not asked");
    guarded.denied(&task, "outbox/write_file", "label_exceeds_clearance");
    guarded.verified();
}

/// A2: after an untrusted page, a write whose target is the actor's own choice.
#[test]
fn after_an_untrusted_page_a_write_of_ones_own_choice_waits_for_an_approval_and_a_bound_one_does_not() {
    let free = json!({ "scope": [
        { "tool": "files/read_text_file" },
        { "tool": "files/write_file", "args": { "path": [{ "max_bytes": 200 }], "content": [] } },
        { "tool": "notes/write_file", "args": { "path": [{ "under": "@/notes" }], "content": [] } },
    ]});
    let Some(guarded) = Guarded::up(&[("desk", free)]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    let _ = agent.done("files/write_file", text(&guarded, "docs/before.txt", "of its own"));
    let _ = agent.done("files/read_text_file", file(&guarded, "docs/mail.txt"));
    let answer = agent.ask(call("files/write_file", text(&guarded, "docs/after.txt", "as told")));
    assert!(is_denied(&answer, "unbound_argument_after_untrusted_input"), "{answer}");
    assert_eq!(answer["data"]["requestable"], true, "a person may approve it");
    assert_eq!(guarded.read("docs/after.txt"), None, "nothing was done meanwhile");
    let _ = agent.done("notes/write_file", text(&guarded, "notes/bound.txt", "where the mandate says"));
    guarded.denied(&task, "files/write_file", "unbound_argument_after_untrusted_input");
    guarded.verified();
}

/// A3: an allowed tool, with arguments beyond what it was allowed for.
#[test]
fn an_allowed_tool_with_another_path_customer_or_amount_is_denied() {
    let mandate = json!({
        "parameters": { "customer": { "text": { "max_bytes": 200 } } },
        "scope": [
            { "tool": "files/read_text_file", "args": { "path": [{ "under_param": "customer" }] } },
            { "tool": "everything/get-sum", "args": { "a": [{ "at_most": 82 }], "b": [{ "equals": 0 }] } },
        ],
    });
    let Some(guarded) = Guarded::up_with_everything(&[("desk", mandate)]) else { return };
    guarded.write("docs/one/account.txt", "one's own");
    guarded.write("docs/two/account.txt", "another's");
    let mut agent = guarded.agent();
    let task = agent.begin_with("desk", json!({ "customer": guarded.path("docs/one") }));
    assert_eq!(agent.done("files/read_text_file", file(&guarded, "docs/one/account.txt")), "one's own");
    for path in [
        "docs/two/account.txt",
        "docs/one/../two/account.txt",
        "docs/one/./../two/account.txt",
        "docs/onetwo",
    ] {
        agent.denied("files/read_text_file", file(&guarded, path), "argument_out_of_scope");
    }
    let more = json!({ "path": guarded.path("docs/one/account.txt"), "head": 1 });
    agent.denied("files/read_text_file", more, "argument_out_of_scope");
    let _ = agent.done("everything/get-sum", json!({ "a": 82, "b": 0 }));
    for amount in [json!({ "a": 820, "b": 0 }), json!({ "a": "82", "b": 0 }), json!({ "a": 82.5, "b": 0 })] {
        agent.denied("everything/get-sum", amount, "argument_out_of_scope");
    }
    guarded.denied(&task, "files/read_text_file", "argument_out_of_scope");
    guarded.denied(&task, "everything/get-sum", "argument_out_of_scope");
    guarded.verified();
}

/// A4: fifty variations of a denied call, and other names for its tool.
#[test]
fn a_denied_call_in_fifty_variations_suspends_its_task() {
    let probed = json!({ "budgets": { "denials": 10 }, "scope": clerk()["scope"] });
    let Some(guarded) = Guarded::up(&[("desk", probed)]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    let allowed = file(&guarded, "docs/plain.txt");
    let _ = agent.done("files/read_text_file", allowed.clone());
    let mut reasons: Vec<Value> = Vec::new();
    for n in 0..50 {
        let answer = match n % 5 {
            0 => agent.call("files/read_file", allowed.clone()),
            1 => agent.call("files/list_directory", file(&guarded, "docs")),
            _ => agent.call("files/read_text_file", file(&guarded, &format!("agent/{n}"))),
        };
        assert_eq!(answer["code"], -32001, "{answer}");
        reasons.push(answer["data"]["reason"].clone());
    }
    let suspended = reasons.iter().position(|reason| reason == "task_suspended").expect("it is suspended");
    assert!((10..=11).contains(&suspended), "after ten denials, not {suspended}");
    // A tool that does not exist is that first of all.
    let is_over = |reason: &Value| reason == "task_suspended" || reason == "unknown_tool";
    assert!(reasons[suspended..].iter().all(is_over), "{reasons:?}");
    agent.denied("files/read_text_file", allowed, "task_suspended");
    guarded.denied(&task, "files/read_file", "unknown_tool");
    guarded.denied(&task, "files/list_directory", "out_of_scope");
    guarded.trace("that it was suspended", &task, |actions| {
        actions.iter().any(|action| action["kind"] == "task.suspend" && action["reason"] == "probing")
    });
    assert_eq!(guarded.task(&task)["state"]["is"], "suspended");
    guarded.verified();
}

/// A13: one actor leaves what it knows in a note, another one without any secret reads and sends it.
#[test]
fn a_note_of_a_secret_makes_its_reader_as_secret_as_its_writer() {
    if !integration_tests::needs::root() {
        return;
    }
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    // Each in a cgroup of its own, so that they share nothing but the note.
    let (mut writer, _) = guarded.launched("desk");
    let (mut reader, task) = guarded.launched("desk");
    let _ = writer.done("files/read_text_file", file(&guarded, "docs/payroll.txt"));
    let _ = writer.done("notes/write_file", text(&guarded, "notes/n.txt", "five thousand, says the list"));
    let _ = reader.done("outbox/write_file", text(&guarded, "outbox/clean.txt", "so far it knows nothing"));
    let note = reader.done("notes/read_text_file", file(&guarded, "notes/n.txt"));
    reader.denied("outbox/write_file", text(&guarded, "outbox/note.txt", &note), "label_exceeds_clearance");
    assert_eq!(guarded.read("outbox/note.txt"), None);
    guarded.trace("that the note raised its reader", &task, |actions| {
        actions.iter().any(|action| action["tool"] == "notes/read_text_file" && action["label"]["c"] == 2)
    });
    guarded.denied(&task, "outbox/write_file", "label_exceeds_clearance");
    guarded.verified();
}
