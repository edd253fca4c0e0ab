//! Commands and how they are decided: one file a noun.

use spiffe::Timestamp;

use crate::commit::{Author, Change, Record};

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
    fn decide(self, registry: &(), moment: &Moment) -> Decision<Self::Answer>;
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
