//! The end of what has an end: the server asks for it when [`Registry::next_end`] is due.

use serde_json::json;

use crate::{
    commit::Change,
    decide::{Command, Decision, Moment, Proposal, task::Turns},
    index::Holder,
    objects::{Actor, Key, Reason},
    record::Record,
    registry::Registry,
};

/// Removes entries and used proofs that have ended, and join tokens whose end is a day ago; ends tasks at their
/// end, and forgets those that ended a while ago; suspends the tasks of actors whose review is overdue.
#[derive(Clone, Copy, Debug)]
pub struct Expire;

/// So many at once; the server asks again while something is due.
const MAX_AT_ONCE: usize = 1000;

impl Command for Expire {
    /// What was due.
    type Answer = Vec<Key>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Vec<Key>> {
        let due = registry.index.ends.iter().take_while(|(end, _)| *end <= moment.now);
        let due: Vec<Key> = due.take(MAX_AT_ONCE).map(|(_, key)| key.clone()).collect();
        if due.is_empty() {
            return Decision { proposal: Proposal::default(), answer: due };
        }
        let mut turns = Turns::new(registry, moment.now);
        let (mut changes, mut gone, mut overdue) = (Vec::new(), Vec::new(), Vec::new());
        for key in &due {
            match key {
                Key::Task(id) if registry.task(id).is_some_and(|task| !task.is_ended()) => {
                    turns.end(id, Reason::Ttl);
                }
                Key::Actor(id) => {
                    if let Some(actor) = registry.actor(id) {
                        changes.push(registry.put_change(Actor { overdue: true, ..Actor::clone(actor) }));
                        overdue.push(id);
                        for task in registry.index.held_by(&Holder::Actor(id.clone())) {
                            turns.suspend(task, Reason::ReviewOverdue, moment.now);
                        }
                    }
                }
                gone_now => {
                    changes.push(Change::Delete(gone_now.clone()));
                    gone.push(gone_now);
                }
            }
        }
        let (turned, tasks) = turns.done();
        let facts = json!({ "keys": gone, "overdue": overdue, "tasks": tasks });
        let record = Record { kind: "expire", outcome: Ok(()), facts };
        changes.extend(turned);
        Decision { proposal: Proposal { changes, record: Some(record) }, answer: due }
    }
}
