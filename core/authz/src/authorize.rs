//! What a gate knows of deciding: two implementations stand behind it, the agent in the same process and the
//! agent behind its socket.

use std::future::Future;

use registry::{objects::Sha256, scope::ToolName};

use crate::{call::ToolCall, denial::Refused};

/// Decides for one task: whoever made this has authenticated it.
pub trait Authorize: Send + Sync {
    /// The right to make one call.
    type Permit: Allowed;

    /// Judges and records; a permit exists only once the record is durable.
    fn authorize(&self, call: &ToolCall) -> impl Future<Output = Result<Self::Permit, Refused>> + Send;

    /// Which of these tools the task could call, in the order given. A question: nothing is spent.
    fn visible(&self, tools: &[ShownTool]) -> impl Future<Output = Result<Vec<bool>, Refused>> + Send;
}

/// A permit, wherever it was made.
pub trait Allowed: Send {
    /// The call while it runs.
    type Running: Running;

    /// Looks at the task once more. Only after that may the call be forwarded: these bytes, now.
    fn spend(self, call: &ToolCall) -> impl Future<Output = Result<Self::Running, Refused>> + Send;
}

/// A call that is being made.
pub trait Running: Send {
    /// Ends when forwarding must stop: the task ended, or whoever decides is lost.
    fn revoked(&self) -> impl Future<Output = ()> + Send;

    /// Records what became of the call and raises the task's label by what `result` carries, durably. Not one
    /// byte of the result may be released before this has said so; if it refuses, none ever.
    fn release(self, outcome: Outcome<'_>) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// A tool as an upstream shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShownTool {
    /// Its name, with its resource.
    pub tool: ToolName,
    /// SHA-256 of the canonical JSON of its definition.
    pub definition: Sha256,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome<'a> {
    /// It was done; this is what it answered, as it will be released.
    Done(&'a [u8]),
    /// The upstream says that it failed; this is what it answered.
    Failed(&'a [u8]),
    /// It may have been done or not: the connection was lost, or forwarding was stopped.
    Unknown,
}
