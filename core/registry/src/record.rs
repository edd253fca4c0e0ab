//! Records: what the audit log says of a commit, and the canonical JSON that it keeps of it.

use std::mem;

use serde_json::{Value, json};

use crate::{commit::Revision, decide::Moment};

/// What the audit log says of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// For example `entry.create` or `token.create`.
    pub kind: &'static str,
    /// Whether it was done or refused, and why.
    pub outcome: Result<(), String>,
    /// What it was about; no secrets. Field names are stable, and ASCII.
    pub facts: Value,
}

impl Record {
    /// The audit leaf: one JSON object in its canonical form (RFC 8785), so that equal records are
    /// equal bytes for everyone who hashes them.
    pub fn leaf(self, revision: Revision, moment: &Moment) -> Vec<u8> {
        let mut leaf = json!({
            "seq": revision.0,
            "time": moment.now,
            "kind": self.kind,
            "author": moment.author,
            "outcome": if self.outcome.is_ok() { "done" } else { "refused" },
        });
        leaf["facts"] = self.facts;
        if let Err(reason) = self.outcome {
            leaf["reason"] = reason.into();
        }
        let mut out = Vec::new();
        write_canonical(&leaf, &mut out);
        out
    }
}

/// Writes `value` with the members of each object in the order of their names. What else RFC 8785
/// asks for holds already: no spaces, shortest escapes, and records have no fractions.
fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    let mut separator = b"".as_slice();
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                out.extend_from_slice(mem::replace(&mut separator, b","));
                write_canonical(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // INVARIANT: names in records are ASCII, so byte order is RFC 8785's UTF-16 order.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            out.push(b'{');
            for (name, value) in sorted {
                out.extend_from_slice(mem::replace(&mut separator, b","));
                out.extend_from_slice(format!("\"{name}\":").as_bytes());
                write_canonical(value, out);
            }
            out.push(b'}');
        }
        plain => out.extend_from_slice(plain.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use spiffe::Timestamp;

    use super::*;
    use crate::commit::Author;

    #[test]
    fn a_leaf_is_one_line_of_sorted_json() {
        let facts = json!({"z": [{"b": 1, "a": "\u{1b}\n"}, []]});
        let record = Record { kind: "x.y", outcome: Err("no".to_owned()), facts };
        let moment = Moment { now: Timestamp::from_unix_seconds(1), author: Author::Server };
        let leaf = String::from_utf8(record.leaf(Revision(7), &moment)).unwrap();
        assert_eq!(
            leaf,
            r#"{"author":{"kind":"server"},"facts":{"z":[{"a":"\u001b\n","b":1},[]]},"kind":"x.y","outcome":"refused","reason":"no","seq":7,"time":"1970-01-01T00:00:01Z"}"#
        );
    }
}
