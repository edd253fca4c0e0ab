//! Tasks, as the process that they belong to sees them: what the four methods of `writ.task.v1` share.

use registry::{
    objects::{MandateName, TaskId},
    scope::{Params, Scope},
};
use spiffe::{SpiffeId, Timestamp};

/// What whoever begins a task asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Under which mandate.
    pub mandate: MandateName,
    /// A value for each of its parameters.
    pub params: Params,
    /// Less than it allows; `None` asks for all of it.
    pub scope: Option<Scope>,
    /// Seconds; `None` asks for as long as it allows.
    pub ttl: Option<u32>,
    /// What the asker says about it: an annotation.
    pub note: String,
}

/// A task as it is shown to its own processes.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskShown {
    /// Its name.
    pub id: TaskId,
    /// Its own SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// The object's JSON.
    pub json: Vec<u8>,
}

/// A transaction token.
#[derive(Clone, Debug)]
pub struct TaskToken {
    /// A JWS in compact serialisation.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Why there is no task, or not this one: a sentence for the process that asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoTask {
    /// What is asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It may not.
    #[error("{0}")]
    Denied(String),
    /// There is no such task of its own.
    #[error("{0}")]
    NotFound(String),
    /// Not as things stand.
    #[error("{0}")]
    Precondition(String),
    /// Not now: the server cannot be asked, or something is under way.
    #[error("{0}")]
    Unavailable(String),
}

impl From<NoTask> for tonic::Status {
    fn from(none: NoTask) -> Self {
        let says = none.to_string();
        match none {
            NoTask::Invalid(_) => Self::invalid_argument(says),
            NoTask::Denied(_) => Self::permission_denied(says),
            NoTask::NotFound(_) => Self::not_found(says),
            NoTask::Precondition(_) => Self::failed_precondition(says),
            NoTask::Unavailable(_) => Self::unavailable(says),
        }
    }
}
