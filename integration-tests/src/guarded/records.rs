//! What an operator finds on record of a gate's calls: tasks, traces and the log.

use serde_json::Value;

use super::{Guarded, SOON};
use crate::running::eventually;

impl Guarded {
    /// A task as the server has it.
    #[track_caller]
    #[must_use]
    pub fn task(&self, id: &str) -> Value {
        self.writ.ask(&["task", "show", id])["tasks"][0].clone()
    }

    /// Waits until the server knows that a task ended, for this reason.
    #[track_caller]
    pub fn ended(&self, id: &str, reason: &str) {
        let state = eventually("the server knows that it ended", SOON, || {
            let state = self.task(id)["state"].clone();
            (state["is"] == "ended").then_some(state)
        });
        assert_eq!(state["reason"], reason, "{state}");
    }

    /// What `writ trace` shows of the chain of a task, once everything that `seen` looks for is there.
    #[track_caller]
    pub fn trace(&self, what: &str, task: &str, seen: impl Fn(&[Value]) -> bool) -> Value {
        let last = std::cell::RefCell::new(Value::Null);
        let look = || {
            let answer = self.writ.run(&["trace", task, "--output", "json"]);
            let chain = if answer.code == 0 { answer.json() } else { Value::Null };
            let actions = chain["actions"].as_array().cloned().unwrap_or_default();
            last.replace(chain.clone());
            seen(&actions).then_some(chain)
        };
        let end = std::time::Instant::now() + SOON;
        while std::time::Instant::now() < end {
            if let Some(chain) = look() {
                return chain;
            }
            std::thread::yield_now();
        }
        panic!("the trace of {task} does not show {what}: {:#}", last.into_inner());
    }

    /// Insists that the log has a denied call of this tool in this task, for this reason.
    #[track_caller]
    pub fn denied(&self, task: &str, tool: &str, reason: &str) {
        self.trace(&format!("that {tool} was denied: {reason}"), task, |actions| {
            actions.iter().any(|action| is(action, tool, "deny") && has(action, reason))
        });
    }

    /// Insists that the log has an allowed call of this tool in this task, with this outcome.
    #[track_caller]
    pub fn allowed(&self, task: &str, tool: &str, outcome: &str) {
        self.trace(&format!("that {tool} was allowed and {outcome}"), task, |actions| {
            actions.iter().any(|action| is(action, tool, "allow") && action["outcome"] == outcome)
        });
    }

    /// Insists that the log has a call of this tool by somebody without a task. Of strangers it has a count a second.
    #[track_caller]
    pub fn stranger(&self, tool: &str) {
        self.recorded(&format!("that a stranger called {tool}"), |record| {
            record["kind"] == "denials"
                && record["task"].is_null()
                && record["tool"] == tool
                && has(record, "no_task")
        });
    }

    /// Every entry of the audit log.
    #[must_use]
    pub fn entries(&self) -> Vec<Value> {
        let tail = self.writ.run(&["audit", "tail", "-n", "100000", "--output", "json"]).done();
        tail.out.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// Waits for a record of which this holds.
    #[track_caller]
    pub fn recorded(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, SOON, || {
            self.entries().into_iter().map(|entry| entry["record"].clone()).find(|record| wanted(record))
        })
    }

    /// Recomputes the whole log: everything in it is as it was recorded.
    #[track_caller]
    pub fn verified(&self) {
        let verified = self.writ.ask(&["audit", "verify"]);
        assert_eq!(verified["alarms"], 0, "{verified}");
    }
}

fn is(action: &Value, tool: &str, decision: &str) -> bool {
    action["tool"] == tool && action["decision"] == decision
}

/// Whether a record's reason has this code.
#[must_use]
pub fn has(record: &Value, code: &str) -> bool {
    record["reason"].as_str().is_some_and(|reason| reason.split(':').next() == Some(code))
}
