//! Records: what the audit log says of a commit, and the canonical JSON that it keeps of it.

use serde_json::{Map, Value, json};

use crate::{commit::Revision, decide::Moment};

/// What the audit log says of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// For example `entry.create` or `token.create`.
    pub kind: &'static str,
    /// Whether it was done or refused, and why.
    pub outcome: Result<(), String>,
    /// What it was about; no secrets. Field names are stable.
    pub facts: Value,
}

impl Record {
    /// The audit leaf: one JSON object in its canonical form (RFC 8785), so that equal records are
    /// equal bytes for everyone who hashes them.
    pub fn leaf(&self, revision: Revision, moment: &Moment) -> Vec<u8> {
        let mut leaf = json!({
            "seq": revision.0,
            "time": moment.now,
            "kind": self.kind,
            "author": moment.author,
            "outcome": if self.outcome.is_ok() { "done" } else { "refused" },
            "facts": self.facts,
        });
        if let (Err(reason), Value::Object(members)) = (&self.outcome, &mut leaf) {
            members.insert("reason".to_owned(), reason.as_str().into());
        }
        canonical(&leaf).to_string().into_bytes()
    }
}

/// The same value with the members of each object in the order of their names. What else RFC 8785
/// asks for holds already: no spaces, shortest escapes, and records have no fractions.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::Object(members) => {
            // INVARIANT: names in records are ASCII, so byte order is RFC 8785's UTF-16 order.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            sorted
                .into_iter()
                .map(|(name, value)| (name.clone(), canonical(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use spiffe::Timestamp;

    use super::*;
    use crate::commit::Author;

    #[test]
    fn a_leaf_is_one_line_of_sorted_json() {
        let record = Record {
            kind: "x.y",
            outcome: Err("no".to_owned()),
            facts: json!({"z": [{"b": 1, "a": "\u{1b}\n"}]}),
        };
        let moment = Moment { now: Timestamp::from_unix_seconds(1), author: Author::Server };
        let leaf = String::from_utf8(record.leaf(Revision(7), &moment)).unwrap();
        assert_eq!(
            leaf,
            r#"{"author":{"kind":"server"},"facts":{"z":[{"a":"\u001b\n","b":1}]},"kind":"x.y","outcome":"refused","reason":"no","seq":7,"time":"1970-01-01T00:00:01Z"}"#
        );
    }
}
