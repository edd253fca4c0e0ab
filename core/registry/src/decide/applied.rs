//! What became of an object that a declaration asked for.

use serde_json::{Value, json};

use super::{Decision, Refusal, entry::Effect};
use crate::{
    commit::Change,
    objects::{Key, Object, Sha256},
    registry::Registry,
};

/// An object as it was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    /// Which.
    pub key: Key,
    /// What was done.
    pub effect: Effect,
    /// What the asker should know although it was done.
    pub warnings: Vec<String>,
}

/// The most that one object may have as JSON, in bytes.
const MAX_BYTES: usize = 64 * 1024;

impl Registry {
    /// Puts an object that may be as it is asked for, and what follows from it.
    pub(super) fn applied(
        &self,
        kind: &'static str,
        object: impl Into<Object>,
        warnings: Vec<String>,
        follows: (Vec<Change>, Vec<Value>),
    ) -> Decision<Result<Applied, Refusal>> {
        let object = object.into();
        let (key, json) = (object.key(), object.to_json());
        if json.len() > MAX_BYTES {
            let why = format!("{key} has {} bytes as JSON; at most {MAX_BYTES} are allowed", json.len());
            return Decision::refused(kind, json!({ "key": key }), Refusal::Invalid(why));
        }
        let change = self.put_change(object);
        let version = self.version(&key) + 1;
        let effect = if version == 1 { Effect::Created } else { Effect::Updated };
        let facts = json!({
            "key": key, "effect": effect.as_str(), "version": version, "sha256": Sha256::of(&json), "tasks": follows.1,
        });
        let changes = std::iter::once(change).chain(follows.0).collect();
        Decision::done(kind, facts, changes, Applied { key, effect, warnings })
    }
}

impl Applied {
    /// It was like that already.
    pub(super) fn unchanged(key: Key, warnings: Vec<String>) -> Decision<Result<Self, Refusal>> {
        Decision::unchanged(Self { key, effect: Effect::Unchanged, warnings })
    }
}

/// Deletes an object that is there, with what follows from that.
pub(super) fn deleted(
    kind: &'static str,
    key: Key,
    follows: (Vec<Change>, Vec<Value>),
) -> Decision<Result<(), Refusal>> {
    let facts = json!({ "key": key, "tasks": follows.1 });
    let changes = std::iter::once(Change::Delete(key)).chain(follows.0).collect();
    Decision::done(kind, facts, changes, ())
}

/// Refuses a command about one object.
pub(super) fn refused<T>(kind: &'static str, key: &Key, why: Refusal) -> Decision<Result<T, Refusal>> {
    Decision::refused(kind, json!({ "key": key }), why)
}

/// A text that people read: something, of at most so many bytes, on one line.
pub(super) fn check_text(field: &str, text: &str, most: usize) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::Invalid(format!("{field} is empty; say who or what it is")));
    }
    if text.len() > most || text.chars().any(char::is_control) {
        let why = format!("{field} must be one line of at most {most} bytes");
        return Err(Refusal::Invalid(why));
    }
    Ok(())
}
