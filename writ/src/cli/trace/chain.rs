//! A chain: tasks joined by begin, and what each of them did, in its own order.

use std::collections::{BTreeMap, BTreeSet};

use audit::{Kind, Labels, Placed, Record};
use serde::Serialize;
use spiffe::Timestamp;

use super::leaf::{Began, Leaf, State};
use crate::cli::output::plain;

/// Everything that the log says of tasks, until it is known which chain is wanted.
#[derive(Debug, Default)]
pub(super) struct Chains {
    began: BTreeMap<String, Began>,
    ended: BTreeMap<String, State>,
    recorded: BTreeMap<String, Vec<Placed>>,
}

/// A task with what it did and the tasks below it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Chain {
    task: String,
    actor: String,
    mandate: String,
    home: String,
    tier: u8,
    isolation: String,
    egress: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lowered_by: Vec<String>,
    began_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// It has ended, and each of its calls has an outcome.
    closed: bool,
    actions: Vec<Action>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Chain>,
}

/// One thing that happened in a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Action {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_seq: Option<u64>,
    time: Timestamp,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<audit::Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<audit::Outcome>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    after_end: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Labels>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policy_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl Chains {
    /// Takes an entry in.
    pub(super) fn add(&mut self, leaf: Leaf) {
        match leaf {
            Leaf::Began(began) => drop(self.began.insert(began.task.clone(), *began)),
            Leaf::Turned(at, tasks) => {
                for turned in tasks {
                    let state = State { at: turned.state.at.or(Some(at)), ..turned.state };
                    self.ended.insert(turned.task, state);
                }
            }
            Leaf::Recorded(placed) => {
                let task = placed.record.task.clone().unwrap_or_default();
                self.recorded.entry(task).or_default().push(*placed);
            }
        }
    }

    /// The chain that a task belongs to.
    pub(super) fn of(&self, task: &str) -> Option<Chain> {
        let root = &self.began.get(task)?.root;
        let mut seen = BTreeSet::new();
        self.below(root, &mut seen)
    }

    fn below<'a>(&'a self, task: &'a str, seen: &mut BTreeSet<&'a str>) -> Option<Chain> {
        // A log that says nonsense makes no circle.
        let began = self.began.get(task).filter(|_| seen.insert(task))?;
        let state = self.ended.get(task);
        let recorded = self.recorded.get(task).map_or(&[][..], Vec::as_slice);
        let children = self.began.values().filter(|child| child.parent.as_deref() == Some(task));
        Some(Chain {
            task: task.to_owned(),
            actor: began.actor.clone(),
            mandate: format!("{}@{}", began.mandate, began.version),
            home: began.home.clone(),
            tier: began.tier,
            isolation: began.isolation.clone(),
            egress: began.egress.clone(),
            lowered_by: began.lowered_by.clone(),
            began_at: began.at,
            state: state.map(|state| state.is.clone()),
            reason: state.and_then(|state| state.reason.clone()),
            closed: recorded.iter().any(|placed| placed.record.kind == Kind::TaskClose),
            actions: actions(recorded),
            children: children.filter_map(|child| self.below(&child.task, seen)).collect(),
        })
    }
}

/// Decisions in their order, each with its outcome; what is neither stands where it happened.
fn actions(records: &[Placed]) -> Vec<Action> {
    let mut actions: Vec<Action> = Vec::new();
    for Placed { record, .. } in records.iter().filter(|placed| placed.record.kind != Kind::TaskClose) {
        let decided = actions.iter_mut().rev().find(|action| {
            record.kind == Kind::Outcome
                && action.kind == Kind::Decision
                && action.outcome.is_none()
                && action.task_seq == record.task_seq
        });
        match decided {
            Some(action) => {
                action.outcome = record.outcome;
                action.after_end = record.after_end;
                action.label = record.labels_out.clone().or(action.label.take());
            }
            None => actions.push(action(record)),
        }
    }
    actions
}

fn action(record: &Record) -> Action {
    Action {
        task_seq: record.task_seq,
        time: record.time,
        kind: record.kind,
        tool: record.tool.clone(),
        effect: record.effect.clone(),
        decision: record.decision,
        reason: record.reason.clone(),
        outcome: record.outcome,
        after_end: record.after_end,
        label: record.labels_out.clone(),
        policy_ids: record.policy_ids.clone(),
        count: record.count,
    }
}

impl Chain {
    /// The tree as people read it.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, "", "");
        text
    }

    fn write(&self, out: &mut String, first: &str, rest: &str) {
        let lowered = match self.lowered_by.as_slice() {
            [] => String::new(),
            policies => format!(", lowered by {}", policies.join(", ")),
        };
        out.push_str(&plain(&format!(
            "{first}task {} · {} · mandate {} · tier {} · {}, {}{lowered}",
            self.task, self.actor, self.mandate, self.tier, self.isolation, self.egress
        )));
        out.push('\n');
        let mut lines: Vec<String> = vec![format!("{}  began on {}", moment(self.began_at), self.home)];
        lines.extend(self.actions.iter().map(Action::to_line));
        if let Some(state) = self.state.as_ref().filter(|state| *state != "active") {
            let closed = if self.closed { ", and every call has its outcome" } else { "" };
            lines
                .push(format!("{state}: {}{closed}", self.reason.as_deref().unwrap_or("no reason is known")));
        }
        let last = lines.len() + self.children.len();
        for (n, line) in lines.iter().enumerate() {
            let branch = if n + 1 == last { "└─ " } else { "├─ " };
            out.push_str(&format!("{rest}{branch}{}\n", plain(line)));
        }
        for (n, child) in self.children.iter().enumerate() {
            let is_last = lines.len() + n + 1 == last;
            let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            child.write(out, &format!("{rest}{branch}"), &format!("{rest}{below}"));
        }
    }
}

impl Action {
    fn to_line(&self) -> String {
        let mut words = vec![moment(self.time)];
        match &self.tool {
            Some(tool) => words.push(tool.clone()),
            None => words.push(self.kind.as_str().to_owned()),
        }
        words.extend(self.effect.clone());
        match self.decision {
            Some(audit::Decision::Allow) => words.push("allowed".to_owned()),
            Some(audit::Decision::Deny) => words.push("DENIED".to_owned()),
            None => {}
        }
        words.extend(self.count.map(|count| format!("{count} times")));
        words.extend(self.outcome.map(|outcome| outcome.as_str().replace('_', " ")));
        words.extend(self.after_end.then(|| "after the end".to_owned()));
        words.extend(self.reason.as_ref().map(|reason| format!("({reason})")));
        words.extend(self.label.as_ref().filter(|label| **label != Labels::default()).map(label));
        words.join("  ")
    }
}

/// As wide as the longest, so that what follows stands in one column.
fn moment(time: Timestamp) -> String {
    format!("{:<24}", time.to_string())
}

fn label(label: &Labels) -> String {
    let mut parts = vec![format!("confidentiality {}", label.confidentiality)];
    parts.extend((!label.categories.is_empty()).then(|| label.categories.join(" ")));
    parts.extend((!label.sources.is_empty()).then(|| format!("untrusted: {}", label.sources.join(" "))));
    format!("[{}]", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn began(task: &str, root: &str, parent: Option<&str>) -> Value {
        json!({
            "seq": 1, "time": "2026-11-30T20:00:00Z", "kind": "task.begin", "outcome": "done", "facts": {
                "task": task, "root": root, "parent": parent, "actor": "spiffe://acme.example/triage",
                "mandate": "triage", "version": 1, "home": "spiffe://acme.example/n", "tier": 1,
                "isolation": "process", "egress": "open", "lowered_by": [],
            },
        })
    }

    fn record(kind: &str, task: &str, seq: u64, more: Value) -> Value {
        let mut record = json!({
            "seq": seq, "time": "2026-11-30T20:00:01Z", "kind": kind, "task": task, "task_seq": seq,
            "tool": "tickets/read", "effect": "read",
        });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    }

    fn chains(leaves: &[Value]) -> Chains {
        let mut chains = Chains::default();
        leaves
            .iter()
            .filter_map(|leaf| Leaf::read(leaf.to_string().as_bytes()))
            .for_each(|leaf| chains.add(leaf));
        chains
    }

    #[test]
    fn a_chain_is_its_tasks_each_with_what_it_did() {
        let log = [
            began("A", "A", None),
            record("decision", "A", 1, json!({ "decision": "allow" })),
            began("B", "A", Some("A")),
            record("outcome", "A", 1, json!({ "outcome": "executed", "labels_out": { "c": 2 } })),
            record("decision", "B", 1, json!({ "decision": "deny", "reason": "out_of_scope: no rule" })),
            began("C", "C", None),
            json!({
                "seq": 9, "time": "2026-11-30T20:00:02Z", "kind": "task.change", "outcome": "done", "facts": {
                    "tasks": [{ "task": "A", "state": { "is": "ended", "reason": "done" } }],
                },
            }),
        ];
        let chains = chains(&log);
        let chain = chains.of("B").expect("B is known");
        assert_eq!(Some(&chain), chains.of("A").as_ref(), "a task's chain is its root's");
        assert_eq!((chain.task.as_str(), chain.reason.as_deref()), ("A", Some("done")));
        assert_eq!(chain.actions.len(), 1, "a decision and its outcome are one action");
        assert_eq!(chain.actions[0].outcome, Some(audit::Outcome::Executed));
        assert_eq!(chain.children.len(), 1);
        let text = chain.to_text();
        for words in
            ["allowed  executed", "[confidentiality 2]", "DENIED  (out_of_scope: no rule)", "ended: done\n"]
        {
            assert!(text.contains(words), "{words}\n{text}");
        }
        let closed = json!({ "seq": 10, "time": "2026-11-30T20:00:03Z", "kind": "task.close", "task": "A" });
        let chain = self::chains(&[&log[..], &[closed]].concat()).of("A").expect("A is known");
        assert!(chain.closed && chain.actions.len() == 1, "a close is no action");
        assert!(chain.to_text().contains("ended: done, and every call has its outcome"));
        assert!(chains.of("D").is_none());
    }

    #[test]
    fn a_log_that_speaks_nonsense_ends_all_the_same() {
        let circle = [began("A", "B", Some("B")), began("B", "B", Some("A"))];
        assert!(chains(&circle).of("A").is_some());
        let hostile = [began("A", "A", None), record("decision", "A", 1, json!({ "tool": "\u{1b}[2J" }))];
        assert!(!chains(&hostile).of("A").unwrap().to_text().contains('\u{1b}'));
    }
}
