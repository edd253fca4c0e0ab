//! Who answers: the one trait through which this room knows the agent.

use std::sync::Arc;

use peer::Peer;
use tokio::sync::watch;

use crate::Svids;

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

    /// What the caller may have, now and after each change. A closed channel means that it may have
    /// nothing any more.
    fn follow(&self, caller: &Self::Caller) -> watch::Receiver<Standing>;

    /// What can be seen of a process and why, as JSON: of the asker itself, or of the one with this pid.
    fn explain(
        &self,
        asker: &Arc<Peer>,
        pid: Option<u32>,
    ) -> impl Future<Output = Result<Vec<u8>, NoExplanation>> + Send;
}

/// Where a caller stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It has identities, and here they are.
    Holds(Arc<Svids>),
    /// It has identities, or nobody knows yet, and there is nothing to hand out at the moment.
    Preparing,
    /// It has no identity.
    Nothing,
    /// What was proved about it no longer suffices to say; it must be identified again.
    Outdated,
}

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
    /// Something could not be read.
    #[error("{0}")]
    Failed(String),
}
