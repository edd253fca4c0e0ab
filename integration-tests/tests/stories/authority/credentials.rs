//! Nothing that can be copied opens anything, and a message that two readers read differently is read by nobody.

use integration_tests::guarded::{Agent, Guarded, has};
use serde_json::{Value, json};

use super::{clerk, file, text};

/// What a client sends, with headers and body of the attacker's choice.
fn raw(agent: &mut Agent, headers: &[(&str, &str)], body: &str) -> (u64, Value) {
    let mut all =
        json!({ "content-type": "application/json", "accept": "application/json, text/event-stream" });
    for (name, value) in headers {
        all[*name] = json!(value);
    }
    let answer = agent.ask(json!(["raw", "/mcp/files", all, body]));
    let said = serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
    (answer["status"].as_u64().unwrap_or_default(), said)
}

fn request(name: &str, arguments: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name, "arguments": arguments } })
}

/// A5: a task's token and id, in the hands of another process of the same user and program.
#[test]
fn a_stolen_token_and_a_stolen_name_of_a_task_open_nothing_in_another_process() {
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    let mut victim = guarded.agent();
    let task = victim.begin("desk");
    let token = victim.ask(json!(["token"]))["token"].as_str().expect("its own process has one").to_owned();
    let read = request("read_text_file", &file(&guarded, "docs/plain.txt")).to_string();
    let (status, own) = raw(&mut victim, &[("writ-task", &task)], &read);
    assert!(status == 200 && own["result"].is_object(), "what is stolen is there to be had: {own}");
    let mut thief = guarded.agent();
    let bearer = format!("Bearer {token}");
    for headers in
        [&[("authorization", bearer.as_str()), ("writ-task", &task), ("txn-token", &token)][..], &[]]
    {
        let (_, answer) = raw(&mut thief, headers, &read);
        assert_eq!(answer["error"]["code"], -32001, "{answer}");
        assert_eq!(answer["error"]["data"]["reason"], "no_task", "{answer}");
    }
    for theft in [json!(["token", task]), json!(["end", task])] {
        assert!(thief.ask(theft.clone())["refused"].is_string(), "{theft} was answered");
    }
    assert_eq!(guarded.task(&task)["state"]["is"], "active");
    guarded.stranger("files/read_text_file");
    guarded.verified();
}

/// A15: headers that name another tool, names that are there twice, a second call behind a first one.
#[test]
fn a_message_that_two_readers_read_differently_reaches_neither_tool() {
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    let (read, written) = (file(&guarded, "docs/plain.txt"), text(&guarded, "notes/smuggled.txt", "x"));
    let (reads, writes) =
        (request("read_text_file", &read).to_string(), request("write_file", &written).to_string());
    let twice = reads.replacen(
        "\"name\":\"read_text_file\"",
        "\"name\":\"read_text_file\",\"name\":\"write_file\"",
        1,
    );
    let path = reads.replacen("\"path\":", "\"path\":\"/etc/passwd\",\"path\":", 1);
    let batch = format!("[{reads},{writes}]");
    assert!(twice != reads && path != reads);
    for (headers, body, code) in [
        (&[("mcp-name", "read_text_file")][..], &writes, -32020),
        (&[("mcp-method", "tools/list")], &reads, -32020),
        (&[("mcp-protocol-version", "2026-07-28")], &reads, -32020),
        (&[], &twice, -32700),
        (&[], &path, -32700),
        (&[], &batch, -32600),
    ] {
        let (status, answer) = raw(&mut agent, headers, body);
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)), "{headers:?} {body}: {answer}");
    }
    assert_eq!(guarded.read("notes/smuggled.txt"), None);
    guarded.trace("each of the six", &task, |actions| {
        actions.iter().filter(|action| action["decision"] == "deny" && has(action, "malformed")).count() == 6
    });
    // What was sent after all of it is the only call that was judged.
    let _ = agent.done("files/read_text_file", read);
    let chain = guarded.trace("the honest call", &task, |actions| {
        actions.iter().any(|action| action["outcome"] == "executed")
    });
    let judged =
        chain["actions"].as_array().into_iter().flatten().filter(|action| action["decision"] == "allow");
    assert_eq!(judged.count(), 1, "{chain:#}");
    guarded.verified();
}
