//! The end of what has an end: the server asks for it when [`Registry::next_end`] is due.

use serde_json::json;

use crate::{
    commit::Change,
    decide::{Command, Decision, Moment, Proposal},
    objects::Key,
    record::Record,
    registry::Registry,
};

/// Removes entries and used proofs that have ended, and join tokens whose end is a day ago.
#[derive(Clone, Copy, Debug)]
pub struct Expire;

/// So many at once; the server asks again while something is due.
const MAX_AT_ONCE: usize = 1000;

impl Command for Expire {
    /// What is gone.
    type Answer = Vec<Key>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Vec<Key>> {
        let due = registry.index.ends.iter().take_while(|(end, _)| *end <= moment.now);
        let gone: Vec<Key> = due.take(MAX_AT_ONCE).map(|(_, key)| key.clone()).collect();
        if gone.is_empty() {
            return Decision { proposal: Proposal::default(), answer: gone };
        }
        let changes = gone.iter().cloned().map(Change::Delete).collect();
        let record = Record { kind: "expire", outcome: Ok(()), facts: json!({ "keys": gone }) };
        Decision { proposal: Proposal { changes, record: Some(record) }, answer: gone }
    }
}
