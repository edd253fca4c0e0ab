//! Records: what the audit log says of one decision, outcome or transition, and its one form as bytes.

use serde::{Deserialize, Serialize};
use spiffe::{Timestamp, json::write_text};

use crate::{ArgsDigest, Commitment, Hash, Kind};

/// A record's bytes at most: much less than a bundle's entry can be (C2SP tlog-tiles: 65,535).
pub const MAX_RECORD: usize = 16 * 1024;

/// What happened, as whoever saw it says. Where it stands in its node's chain the chain adds.
///
/// No secrets and no arguments themselves: what could name a person lies sealed beside the record, and
/// the record holds a commitment to it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Record {
    /// When, by the clock of whoever recorded it.
    pub time: Timestamp,
    /// What kind of thing.
    pub kind: Kind,
    /// The chain: the root task's id.
    pub chain: Option<String>,
    /// The task's id.
    pub task: Option<String>,
    /// Where in its task's own order.
    pub task_seq: Option<u64>,
    /// What came before it in other tasks: `task/task_seq` of begin, delegate, hand-over and return edges.
    pub after: Vec<String>,
    /// It happened although the task had ended.
    pub after_end: bool,
    /// Whose tenant.
    pub tenant: Option<String>,
    /// The accountable actor.
    pub actor: Option<String>,
    /// Under which mandate and version.
    pub mandate: Option<String>,
    /// As whom the process was known.
    pub spiffe_id: Option<String>,
    /// The gate that asked, where one did.
    pub enforcement_point: Option<String>,
    /// The process.
    pub pid: Option<u32>,
    /// The actors before, outermost last.
    pub on_behalf_of: Vec<String>,
    /// Which tool.
    pub tool: Option<String>,
    /// Which resource.
    pub resource: Option<String>,
    /// What the arguments were, for whoever has them and the tenant's key.
    pub args_digest: Option<ArgsDigest>,
    /// `read`, `write`, `net`, …
    pub effect: Option<String>,
    /// The task's label before.
    pub labels_in: Option<Labels>,
    /// The task's label after.
    pub labels_out: Option<Labels>,
    /// What was decided.
    pub decision: Option<Decision>,
    /// Which policies decided.
    pub policy_ids: Vec<String>,
    /// Of which version.
    pub policy_version: Option<String>,
    /// A reason code, or a sentence for the operator.
    pub reason: Option<String>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// By which it can be undone.
    pub rollback_ref: Option<String>,
    /// Of how many it speaks, where they are counted.
    pub count: Option<u64>,
    /// To what lies sealed beside it.
    pub personal: Option<Commitment>,
}

/// Confidentiality, categories and untrusted sources.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Labels {
    /// 0 to 3.
    #[serde(rename = "c")]
    pub confidentiality: u8,
    /// Sorted.
    #[serde(rename = "k", default)]
    pub categories: Vec<String>,
    /// Sorted.
    #[serde(rename = "u", default)]
    pub sources: Vec<String>,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may be done, once.
    Allow,
    /// It may not.
    Deny,
}

/// What became of a permitted action.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Executed,
    /// It was tried and failed.
    Failed,
    /// It never left.
    NotSent,
    /// Whoever was to say it is gone; counted as done, and never repeated.
    Unknown,
    /// A foreign enforcement point does not say.
    NotReported,
}

/// A record in its place in a node's chain, as it is read.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Placed {
    /// 1 for a spool's first record, one more for each.
    pub seq: u64,
    /// Which node's chain.
    #[serde(default)]
    pub node: Option<String>,
    /// The hash of the record before; zeros before the first.
    #[serde(default)]
    pub prev_hash: Option<Hash>,
    /// What it says.
    #[serde(flatten)]
    pub record: Record,
}

/// Bytes that are no record, or a record that cannot be one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// It says too much.
    #[error("a record of {0} bytes is longer than {MAX_RECORD}")]
    Length(usize),
    /// Not the JSON of a record.
    #[error("not a record: {0}")]
    Form(String),
}

impl Default for Record {
    fn default() -> Self {
        Self::new(Kind::Decision, Timestamp::default())
    }
}

impl Record {
    /// A record that says nothing more yet.
    pub fn new(kind: Kind, time: Timestamp) -> Self {
        Self {
            time,
            kind,
            chain: None,
            task: None,
            task_seq: None,
            after: Vec::new(),
            after_end: false,
            tenant: None,
            actor: None,
            mandate: None,
            spiffe_id: None,
            enforcement_point: None,
            pid: None,
            on_behalf_of: Vec::new(),
            tool: None,
            resource: None,
            args_digest: None,
            effect: None,
            labels_in: None,
            labels_out: None,
            decision: None,
            policy_ids: Vec::new(),
            policy_version: None,
            reason: None,
            outcome: None,
            rollback_ref: None,
            count: None,
            personal: None,
        }
    }

    /// With its place: the canonical JSON (RFC 8785) that is hashed, kept and sent.
    pub fn leaf(
        &self,
        seq: u64,
        node: Option<&str>,
        prev_hash: Option<Hash>,
    ) -> Result<Vec<u8>, RecordError> {
        // INVARIANT: the names are ASCII and in order, as RFC 8785 sorts them; a test compares.
        let mut members = Members::new();
        members.text("actor", self.actor.as_deref());
        members.texts("after", &self.after);
        members.plain("after_end", self.after_end.then_some("true"));
        members.text("args_digest", self.args_digest.map(|digest| digest.to_string()).as_deref());
        members.text("chain", self.chain.as_deref());
        members.number("count", self.count);
        members.text("decision", self.decision.map(Decision::as_str));
        members.text("effect", self.effect.as_deref());
        members.text("enforcement_point", self.enforcement_point.as_deref());
        members.text("kind", Some(self.kind.as_str()));
        members.labels("labels_in", self.labels_in.as_ref());
        members.labels("labels_out", self.labels_out.as_ref());
        members.text("mandate", self.mandate.as_deref());
        members.text("node", node);
        members.texts("on_behalf_of", &self.on_behalf_of);
        members.text("outcome", self.outcome.map(Outcome::as_str));
        members.text("personal", self.personal.map(|commitment| commitment.to_string()).as_deref());
        members.number("pid", self.pid.map(u64::from));
        members.texts("policy_ids", &self.policy_ids);
        members.text("policy_version", self.policy_version.as_deref());
        members.text("prev_hash", prev_hash.map(|hash| hash.to_string()).as_deref());
        members.text("reason", self.reason.as_deref());
        members.text("resource", self.resource.as_deref());
        members.text("rollback_ref", self.rollback_ref.as_deref());
        members.number("seq", Some(seq));
        members.text("spiffe_id", self.spiffe_id.as_deref());
        members.text("task", self.task.as_deref());
        members.number("task_seq", self.task_seq);
        members.text("tenant", self.tenant.as_deref());
        members.text("time", Some(&self.time.to_string()));
        members.text("tool", self.tool.as_deref());
        let leaf = members.end();
        if leaf.len() > MAX_RECORD { Err(RecordError::Length(leaf.len())) } else { Ok(leaf) }
    }

    /// The same without what could make it too long: an ending is recorded whatever it drags along.
    #[must_use]
    pub fn shortened(&self) -> Self {
        let cut =
            |text: &Option<String>| text.as_ref().map(|text| text.chars().take(SHORT).collect::<String>());
        Self {
            chain: cut(&self.chain),
            task: cut(&self.task),
            after: Vec::new(),
            tenant: cut(&self.tenant),
            actor: cut(&self.actor),
            mandate: cut(&self.mandate),
            spiffe_id: cut(&self.spiffe_id),
            enforcement_point: cut(&self.enforcement_point),
            on_behalf_of: Vec::new(),
            tool: cut(&self.tool),
            resource: cut(&self.resource),
            effect: cut(&self.effect),
            labels_in: None,
            labels_out: None,
            policy_ids: Vec::new(),
            policy_version: cut(&self.policy_version),
            reason: cut(&self.reason),
            rollback_ref: cut(&self.rollback_ref),
            ..self.clone()
        }
    }
}

impl Placed {
    /// Reads a record with its place.
    pub fn parse(leaf: &[u8]) -> Result<Self, RecordError> {
        if leaf.len() > MAX_RECORD {
            return Err(RecordError::Length(leaf.len()));
        }
        serde_json::from_slice(leaf).map_err(|error| RecordError::Form(error.to_string()))
    }
}

impl Decision {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl Outcome {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Failed => "failed",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
            Self::NotReported => "not_reported",
        }
    }
}

/// A JSON object under way; what is absent is not written.
struct Members(Vec<u8>);

impl Members {
    fn new() -> Self {
        let mut out = Vec::with_capacity(768);
        out.push(b'{');
        Self(out)
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn plain(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.name(name);
            self.0.extend_from_slice(value.as_bytes());
        }
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.name(name);
            write_text(value, &mut self.0);
        }
    }

    /// Beyond 2^53 readers would round a number, and none of ours gets there.
    fn number(&mut self, name: &str, value: Option<u64>) {
        self.plain(name, value.map(|value| value.min(1 << 53).to_string()).as_deref());
    }

    fn texts(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.name(name);
            self.list(values);
        }
    }

    fn list(&mut self, values: &[String]) {
        self.0.push(b'[');
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.0.push(b',');
            }
            write_text(value, &mut self.0);
        }
        self.0.push(b']');
    }

    fn labels(&mut self, name: &str, labels: Option<&Labels>) {
        if let Some(Labels { confidentiality, categories, sources }) = labels {
            self.name(name);
            self.0.extend_from_slice(format!("{{\"c\":{confidentiality},\"k\":").as_bytes());
            self.list(categories);
            self.0.extend_from_slice(b",\"u\":");
            self.list(sources);
            self.0.push(b'}');
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// Each text of a shortened record has so many characters at most.
const SHORT: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spiffe::json;

    use super::*;

    fn full(text: &str, number: u64) -> Record {
        let texts = vec![text.to_owned(), "b".to_owned()];
        let some = Some(text.to_owned());
        let labels = Labels { confidentiality: 3, categories: texts.clone(), sources: texts.clone() };
        Record {
            chain: some.clone(),
            task: some.clone(),
            task_seq: Some(number),
            after: texts.clone(),
            after_end: true,
            tenant: some.clone(),
            actor: some.clone(),
            mandate: some.clone(),
            spiffe_id: some.clone(),
            enforcement_point: some.clone(),
            pid: Some(7),
            on_behalf_of: texts.clone(),
            tool: some.clone(),
            resource: some.clone(),
            args_digest: Some(ArgsDigest([7; 32])),
            effect: some.clone(),
            labels_in: Some(labels.clone()),
            labels_out: Some(labels),
            decision: Some(Decision::Deny),
            policy_ids: texts,
            policy_version: some.clone(),
            reason: some.clone(),
            outcome: Some(Outcome::NotSent),
            rollback_ref: some,
            count: Some(number),
            personal: Some(Commitment([9; 32])),
            ..Record::new(Kind::TaskEnd, Timestamp::from_unix_millis(1_795_000_000_123))
        }
    }

    proptest! {
        #[test]
        fn a_records_bytes_are_canonical_and_read_as_the_record(text in ".{0,60}", number in 0..1_u64 << 53) {
            let record = full(&text, number);
            let leaf = record.leaf(number, Some(&text), Some(Hash([1; 32]))).unwrap();
            let value = json::parse(&leaf).unwrap();
            prop_assert_eq!(json::canonical(&value).unwrap(), leaf.clone());
            let placed = Placed::parse(&leaf).unwrap();
            prop_assert_eq!(placed.record, record);
            prop_assert_eq!((placed.seq, placed.prev_hash), (number, Some(Hash([1; 32]))));
        }
    }

    #[test]
    fn what_is_absent_is_not_written() {
        let record = Record::new(Kind::Decision, Timestamp::from_unix_seconds(1));
        let leaf = record.leaf(1, None, None).unwrap();
        assert_eq!(leaf, br#"{"kind":"decision","seq":1,"time":"1970-01-01T00:00:01Z"}"#);
        assert_eq!(Placed::parse(&leaf).unwrap().record, record);
    }

    #[test]
    fn a_record_that_is_too_long_is_refused_and_can_be_shortened() {
        let long = full(&"x".repeat(MAX_RECORD), 1);
        assert!(matches!(long.leaf(1, None, None), Err(RecordError::Length(_))));
        let short = long.shortened();
        assert!(
            short.leaf(1, None, None).is_ok() && short.kind == long.kind && short.outcome == long.outcome
        );
    }
}
