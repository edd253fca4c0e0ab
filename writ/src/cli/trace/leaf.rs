//! What an entry of the audit log says of tasks. Nodes and the server write different entries; here both become
//! the same.

use serde::Deserialize;
use serde_json::Value;
use spiffe::Timestamp;

/// An entry about one or several tasks.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf {
    /// The server granted a task.
    Began(Box<Began>),
    /// The server says how tasks stand.
    Turned(Timestamp, Vec<Turned>),
    /// A node recorded something of a task.
    Recorded(Box<audit::Placed>),
}

/// A grant, as the server recorded it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Began {
    #[serde(skip)]
    pub(super) at: Timestamp,
    pub(super) task: String,
    pub(super) root: String,
    #[serde(default)]
    pub(super) parent: Option<String>,
    pub(super) actor: String,
    pub(super) mandate: String,
    pub(super) version: u64,
    pub(super) home: String,
    pub(super) tier: u8,
    pub(super) isolation: String,
    pub(super) egress: String,
    #[serde(default)]
    pub(super) lowered_by: Vec<String>,
}

/// How one task stands.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Turned {
    pub(super) task: String,
    pub(super) state: State,
}

/// A state of a task, with its reason.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct State {
    pub(super) is: String,
    #[serde(default)]
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) at: Option<Timestamp>,
}

impl Leaf {
    /// What an entry says of tasks; `None` where it speaks of something else, or was refused.
    pub(super) fn read(leaf: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(leaf).ok()?;
        let Some(facts) = value.get("facts") else {
            let placed: audit::Placed = serde_json::from_value(value).ok()?;
            return placed.record.task.is_some().then(|| Self::Recorded(Box::new(placed)));
        };
        if value.get("outcome").and_then(Value::as_str) != Some("done") {
            return None;
        }
        let at = serde_json::from_value(value.get("time")?.clone()).ok()?;
        if value.get("kind").and_then(Value::as_str) == Some("task.begin") {
            let began = serde_json::from_value::<Began>(facts.clone()).ok()?;
            return Some(Self::Began(Box::new(Began { at, ..began })));
        }
        let turned: Vec<Turned> = serde_json::from_value(facts.get("tasks")?.clone()).ok()?;
        (!turned.is_empty()).then_some(Self::Turned(at, turned))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Option<Leaf> {
        Leaf::read(value.to_string().as_bytes())
    }

    #[test]
    fn entries_of_server_and_nodes_are_told_apart() {
        let began = json!({
            "seq": 7, "time": "2026-11-30T20:00:00Z", "kind": "task.begin", "author": { "kind": "node" },
            "outcome": "done", "facts": {
                "task": "A", "root": "A", "parent": null, "actor": "spiffe://acme.example/a", "mandate": "m",
                "version": 2, "home": "spiffe://acme.example/n", "tier": 1, "isolation": "process",
                "egress": "open", "lowered_by": [], "entry": "e",
            },
        });
        assert!(matches!(read(&began), Some(Leaf::Began(began)) if began.version == 2));
        let turned = json!({
            "seq": 8, "time": "2026-11-30T20:00:01Z", "kind": "task.change", "outcome": "done",
            "facts": { "home": "n", "tasks": [{
                "task": "A", "state": { "is": "ended", "reason": "done", "at": "2026-11-30T20:00:01Z" },
            }] },
        });
        assert!(matches!(read(&turned), Some(Leaf::Turned(_, tasks)) if tasks[0].state.is == "ended"));
        let decision = json!({ "seq": 1, "time": "2026-11-30T20:00:00Z", "kind": "decision", "task": "A" });
        assert!(matches!(read(&decision), Some(Leaf::Recorded(_))));
    }

    #[test]
    fn what_speaks_of_no_task_or_was_refused_is_passed_over() {
        let refused = json!({
            "seq": 7, "time": "2026-11-30T20:00:00Z", "kind": "task.begin", "outcome": "refused",
            "reason": "no", "facts": { "task": "A" },
        });
        let entry = json!({ "seq": 7, "time": "2026-11-30T20:00:00Z", "kind": "entry.create",
            "outcome": "done", "facts": { "entries": [] } });
        for other in [refused, entry, json!({ "kind": "decision" }), json!([]), json!(7)] {
            assert_eq!(read(&other), None);
        }
        assert_eq!(Leaf::read(b"{"), None);
    }
}
