//! `writ status`: the server and the agent on this machine, on one page.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Shared, admin,
    output::{self, plain},
};
use crate::wire;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ status
  writ status --output json | jq .agent.connected

Exit 1 where neither a server nor an agent answers.";

pub(crate) async fn run(shared: &Shared) -> Result<ExitCode> {
    let (server, agent) = (server(shared).await, agent(shared).await);
    let any = server.is_ok() || agent.is_ok();
    let mut page = serde_json::Map::new();
    for (name, state) in [("server", server), ("agent", agent)] {
        // One socket is one daemon's; that the other is not there is no news.
        if state.is_ok() || !any || shared.sockets.socket.is_none() {
            page.insert(name.to_owned(), half(state));
        }
    }
    output::show(shared.output, &Value::Object(page), |page| {
        let sections = ["server", "agent"].iter().filter_map(|name| Some(section(name, page.get(*name)?)));
        sections.collect::<Vec<_>>().join("\n")
    })?;
    Ok(if any { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn server(shared: &Shared) -> Result<Value> {
    admin::status(&mut admin::connect(shared).await?).await
}

async fn agent(shared: &Shared) -> Result<Value> {
    wire::agent_status::status(&shared.sockets.agent()?).await
}

fn half(state: Result<Value>) -> Value {
    state.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }))
}

/// What a reader looks for first; other fields follow by name.
const FIRST: [&str; 14] = [
    "version",
    "trust_domain",
    "spiffe_id",
    "server",
    "listen",
    "pin",
    "connected",
    "ready",
    "problem",
    "reasons",
    "last_sync",
    "entries",
    "svids",
    "nodes",
];

/// One daemon's state: what is insecure first, then every field that says something, as the daemon calls it.
fn section(name: &str, state: &Value) -> String {
    if let Some(error) = state["error"].as_str() {
        return format!("{name}: {}\n", plain(error));
    }
    let mut text = format!("{name}\n");
    for insecure in state["insecure"].as_array().into_iter().flatten() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  INSECURE: {}", plain(&word(insecure)));
    }
    let mut fields: Vec<_> =
        state.as_object().into_iter().flatten().filter(|(_, value)| says(value)).collect();
    fields.retain(|(field, _)| *field != "insecure");
    fields.sort_by_key(|(field, _)| FIRST.iter().position(|first| first == field).unwrap_or(FIRST.len()));
    let width = fields.iter().map(|(field, _)| field.len()).max().unwrap_or(0);
    for (field, value) in fields {
        let field = field.replace('_', " ");
        let one = std::slice::from_ref(value);
        for (n, item) in value.as_array().map_or(one, Vec::as_slice).iter().enumerate() {
            let title = if n == 0 { field.as_str() } else { "" };
            let _ = writeln!(text, "  {title:width$}  {}", plain(&word(item)));
        }
    }
    text
}

/// Whether a value is more than nothing.
fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// A value on one line.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Object(fields) if fields.contains_key("name") && fields.contains_key("state") => {
            let reason = fields.get("reason").map(|reason| format!(": {}", word(reason)));
            format!("{} {}{}", word(&fields["name"]), word(&fields["state"]), reason.unwrap_or_default())
        }
        Value::Object(fields) => {
            let pairs =
                fields.iter().map(|(name, value)| format!("{} {}", name.replace('_', " "), word(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(", "),
        Value::Number(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_insecure_is_read_first() {
        let state = json!({
            "connected": true, "insecure": ["peers are told apart by process id alone"],
            "svids": [{ "id": "a", "ends": "b" }],
        });
        let text = section("agent", &state);
        assert!(text.starts_with("agent\n  INSECURE: peers are told apart"), "{text}");
        assert!(text.contains("  connected  yes\n"), "{text}");
        let attestors = json!({ "attestors": [{ "name": "unix", "state": "on" },
            { "name": "docker", "state": "failing", "reason": "it does not answer" }] });
        let text = section("agent", &attestors);
        assert!(
            text.contains("attestors  unix on\n") && text.contains("docker failing: it does not"),
            "{text}"
        );
        assert!(section("server", &json!({ "error": "gone" })).contains("server: gone"));
    }
}
