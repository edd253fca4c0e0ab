//! Records: what the audit log says of a commit, and the canonical JSON that it keeps of it.

use serde_json::{Value, json};
use spiffe::json;

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
        json::canonical(&leaf)
            .or_else(|_| {
                // A number from elsewhere that readers would round; as a text it is the same to all.
                leaf["facts"] = leaf["facts"].to_string().into();
                json::canonical(&leaf)
            })
            .expect("a revision and an author have no number beyond 2^53")
    }
}

#[cfg(test)]
mod tests {
    use spiffe::Timestamp;

    use super::*;
    use crate::commit::Author;

    #[test]
    fn a_number_that_readers_would_round_is_kept_as_a_text() {
        let record = Record { kind: "x.y", outcome: Ok(()), facts: json!({"sequence": u64::MAX}) };
        let moment = Moment { now: Timestamp::from_unix_seconds(1), author: Author::Server };
        let leaf = String::from_utf8(record.leaf(Revision(7), &moment)).unwrap();
        assert!(leaf.contains(r#""facts":"{\"sequence\":18446744073709551615}""#), "{leaf}");
    }

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
