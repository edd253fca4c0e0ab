//! A permit of the agent: spent once, at once, and void when its task or the session ends.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use registry::scope::Label;
use tokio_util::sync::CancellationToken;

use super::{Refused, session::Session, wire::Say};

/// The right to forward these arguments, now. Dropped without being spent, the agent is told so.
#[must_use = "a permit that is not spent permits nothing"]
pub(crate) struct Permit {
    call: Option<Call>,
    arguments: Bytes,
    until: Duration,
}

/// A call that is being made. Dropped without an outcome, its outcome is unknown.
#[must_use = "the call's outcome must be told"]
pub(crate) struct Running {
    call: Option<Call>,
}

/// One call of a session.
pub(super) struct Call {
    pub(super) session: Arc<Session>,
    pub(super) id: u64,
    pub(super) void: CancellationToken,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// It was done.
    Executed,
    /// The upstream says that it failed.
    Failed,
    /// Nothing reached the upstream.
    NotSent,
    /// It may have been done or not.
    Unknown,
}

impl Permit {
    pub(super) fn new(call: Call, arguments: Bytes, valid: Duration) -> Self {
        Self { call: Some(call), arguments, until: boot_time() + valid.min(LONGEST) }
    }

    /// What may be forwarded, and nothing else: canonical JSON.
    pub(crate) fn arguments(&self) -> &Bytes {
        &self.arguments
    }

    /// Uses it. Only after that may the call be forwarded: at once, and while it is not void.
    pub(crate) fn spend(mut self) -> Result<Running, Refused> {
        if boot_time() > self.until {
            return Err(Refused::because("permit_expired"));
        }
        let Some(call) = self.call.take() else { return Err(Refused::unreachable()) };
        match call.session.dispatch(call.id) {
            Ok(()) => Ok(Running { call: Some(call) }),
            Err(refused) => {
                call.tell(How::NotSent);
                Err(refused)
            }
        }
    }
}

impl Running {
    /// Ends when forwarding must stop: the task ended, or the agent is lost.
    pub(crate) async fn voided(&self) {
        match &self.call {
            Some(call) => call.void.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Tells what became of it, with what was found in the answer; the answer may be released only after this.
    pub(crate) async fn finish(mut self, how: How, found: &Label) -> Result<(), Refused> {
        let Some(call) = self.call.take() else { return Err(Refused::unreachable()) };
        call.session.finish(call.id, how, found).await
    }

    /// Tells that nothing is to be released of it.
    pub(crate) fn end(mut self, how: How) {
        if let Some(call) = self.call.take() {
            call.tell(how);
        }
    }
}

impl Call {
    fn tell(self, how: How) {
        self.session.forget(self.id);
        self.session.say(Say::Outcome { id: self.id, how, label: None });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.tell(How::NotSent);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.tell(How::Unknown);
        }
    }
}

/// A clock that runs on while the machine sleeps, as the permit does.
fn boot_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// No permit lives longer, whatever is said.
const LONGEST: Duration = Duration::from_secs(1);
