//! Who answers: the one trait through which this room knows the agent.

use std::sync::Arc;

use peer::Peer;
use registry::objects::{Entry, TaskId};
use spiffe::{Audiences, Bundles, Timestamp};
use tokio::sync::{mpsc, watch};

use crate::{Command, Entitled, LaunchEvent, NoLaunch, NoTask, Svids, TaskShown, TaskToken, Wish};

/// Knows processes and what they may have.
pub trait Source: Send + Sync + 'static {
    /// What was proved about a process; made by `identify` alone.
    type Caller: Send + Sync + 'static;

    /// Proves what is needed to know who this process is; at the end it is still the same one.
    fn identify(&self, peer: &Arc<Peer>)
    -> impl Future<Output = Result<Self::Caller, CannotIdentify>> + Send;

    /// Whether what was proved may be remembered for the whole connection. If something could not be
    /// found out just now, the next request finds out anew.
    fn is_lasting(&self, caller: &Self::Caller) -> bool;

    /// The X509-SVIDs that the caller may have, now and after each change. A closed channel means that it
    /// may have nothing any more.
    fn follow(&self, caller: &Self::Caller) -> watch::Receiver<Standing<Svids>>;

    /// For which entries the caller may have tokens, in the same way.
    fn follow_entitled(&self, caller: &Self::Caller) -> watch::Receiver<Standing<Entitled>>;

    /// A token of an entry that is at hand and good for a while; `None` where it takes the server.
    fn jwt_svid(&self, entry: &Arc<Entry>, audiences: &Audiences) -> Option<Arc<str>>;

    /// The same, had from the server where it takes that. Without a connection to the server it fails at
    /// once, but for a token that has not ended.
    fn new_jwt_svid(
        &self,
        entry: &Arc<Entry>,
        audiences: &Audiences,
    ) -> impl Future<Output = Result<Arc<str>, NoToken>> + Send;

    /// By what also a process without an identity may judge tokens: the keys of the agent's own trust domain.
    fn own_bundles(&self) -> Arc<Bundles>;

    /// The time, by which tokens are judged.
    fn now(&self) -> Timestamp;

    /// What can be seen of a process and why, as JSON: of the asker itself, or of the one with this pid.
    fn explain(
        &self,
        asker: &Arc<Peer>,
        pid: Option<u32>,
    ) -> impl Future<Output = Result<Vec<u8>, NoExplanation>> + Send;

    /// Whether more is asked for by now than was proved about the caller.
    fn is_outdated(&self, caller: &Self::Caller) -> bool;

    /// Begins a task for the asker.
    fn begin_task(
        &self,
        asker: &Arc<Peer>,
        caller: &Self::Caller,
        wish: Wish,
    ) -> impl Future<Output = Result<TaskShown, NoTask>> + Send;

    /// The tasks of the asker's domain, now and after each change.
    fn follow_tasks(&self, asker: &Arc<Peer>) -> mpsc::Receiver<Vec<TaskShown>>;

    /// Ends a task of the asker's domain: the one that is named, or the only one.
    fn end_task(
        &self,
        asker: &Arc<Peer>,
        named: Option<&TaskId>,
    ) -> impl Future<Output = Result<TaskId, NoTask>> + Send;

    /// A transaction token of a task of the asker's domain.
    fn task_token(
        &self,
        asker: &Arc<Peer>,
        caller: &Self::Caller,
        named: Option<&TaskId>,
    ) -> impl Future<Output = Result<TaskToken, NoTask>> + Send;

    /// Measures a command and starts it for the asker; what happens until it has ended.
    fn launch(&self, asker: &Arc<Peer>, command: Command) -> mpsc::Receiver<Result<LaunchEvent, NoLaunch>>;
}

/// Where a caller stands.
#[derive(Debug)]
pub enum Standing<T> {
    /// It has identities, and here is what comes of them.
    Holds(Arc<T>),
    /// It has identities, or nobody knows yet, and there is nothing to hand out at the moment.
    Preparing,
    /// It has no identity.
    Nothing,
    /// What was proved about it no longer suffices to say; it must be identified again.
    Outdated,
}

impl<T> Clone for Standing<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Holds(held) => Self::Holds(held.clone()),
            Self::Preparing => Self::Preparing,
            Self::Nothing => Self::Nothing,
            Self::Outdated => Self::Outdated,
        }
    }
}

/// There is no token now: the server cannot be asked, or did not give one. The agent's log says why.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the server cannot be asked for a token now; try again, or see: writ status")]
pub struct NoToken;

/// Why a process was not identified.
#[derive(Debug, thiserror::Error)]
pub enum CannotIdentify {
    /// It ended or became another program meanwhile.
    #[error("{0}")]
    Changed(#[from] peer::Changed),
    /// Something could not be read.
    #[error("{0}")]
    Failed(String),
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum NoExplanation {
    /// No such process, or it belongs to somebody else; which of the two is not said.
    #[error("there is no process {0} of yours")]
    NotYours(u32),
    /// It is there, and may not be read; only an administrator is told so.
    #[error("process {0} may not be read: {1}")]
    Unreadable(u32, String),
    /// Something could not be read.
    #[error("{0}")]
    Failed(String),
}
