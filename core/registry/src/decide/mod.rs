//! Commands and how they are decided: one file a noun.

pub mod actor;
pub mod admission;
pub mod applied;
pub mod authority;
pub mod backup;
pub mod bundle;
pub mod entry;
pub mod environment;
pub mod expire;
pub mod fence;
pub mod issuance;
pub mod mandate;
pub mod node;
pub mod policy;
pub mod resource;
pub mod returning;
pub mod task;
pub mod tenant;
pub mod token;

use serde_json::Value;
use spiffe::Timestamp;

use crate::{
    commit::{Author, Change, Commit},
    objects::Object,
    record::Record,
    registry::Registry,
};

/// When and for whom a command is decided.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// Who asks, as the door authenticated it.
    pub author: Author,
}

/// What a command would do to the log. With neither changes nor record there is nothing to commit.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// Objects as they would be.
    pub changes: Vec<Change>,
    /// What the audit log would say; `None` only where nothing happened at all.
    pub record: Option<Record>,
}

/// A proposal and the answer that the asker gets once it is durable.
#[derive(Debug)]
pub struct Decision<A> {
    /// What is committed.
    pub proposal: Proposal,
    /// What the asker learns, after the commit.
    pub answer: A,
}

/// Something asked of the registry; one type for each verb.
pub trait Command: Send + 'static {
    /// What the asker gets.
    type Answer: Send + 'static;
    /// Decides, from the registry and the moment alone.
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer>;
}

/// Why a command was refused; every refusal says what to do next.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The command itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such object.
    #[error("{0}")]
    NotFound(String),
    /// The object, or one like it, is there already.
    #[error("{0}")]
    AlreadyExists(String),
    /// The asker may not.
    #[error("{0}")]
    Denied(String),
    /// The state of things does not allow it now.
    #[error("{0}")]
    Precondition(String),
}

impl Proposal {
    /// The commit that this becomes on top of `registry`; `None` where nothing happened at all.
    pub fn into_commit(self, registry: &Registry, moment: &Moment) -> Option<Commit> {
        if self.changes.is_empty() && self.record.is_none() {
            return None;
        }
        let revision = registry.revision().next();
        let leaf = self.record.map(|record| record.leaf(revision, moment)).unwrap_or_default();
        let author = moment.author.clone();
        Some(Commit { revision, at: moment.now, author, changes: self.changes, leaf })
    }
}

impl<T> Decision<Result<T, Refusal>> {
    /// It is done, with these changes.
    pub(crate) fn done(kind: &'static str, facts: Value, changes: Vec<Change>, answer: T) -> Self {
        let record = Some(Record { kind, outcome: Ok(()), facts });
        Self { proposal: Proposal { changes, record }, answer: Ok(answer) }
    }

    /// It is refused, and the audit log says so.
    pub(crate) fn refused(kind: &'static str, facts: Value, refusal: Refusal) -> Self {
        let record = Some(Record { kind, outcome: Err(refusal.to_string()), facts });
        Self { proposal: Proposal { changes: Vec::new(), record }, answer: Err(refusal) }
    }

    /// Everything is as it was asked for already.
    pub(crate) fn unchanged(answer: T) -> Self {
        Self { proposal: Proposal::default(), answer: Ok(answer) }
    }
}

impl Registry {
    /// The change that puts `object` on top of what is there.
    pub(crate) fn put_change(&self, object: impl Into<Object>) -> Change {
        let object = object.into();
        Change::Put { version: self.version(&object.key()) + 1, object }
    }
}
