//! What became of a permitted call. Before its answer is released, what it carries is part of the task's label, and
//! that is durable.

use std::sync::Arc;

use audit::{Outcome, Record};
use authz::{Code, Denial, Refused, chain::Raised};
use registry::{
    objects::{Reason, TaskId},
    scope::{Effect, Label},
};

use super::{
    Authorizer, records,
    story::{Given, told},
};
use crate::{clock, tasks::Live};

/// What a gate says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// It was done.
    Executed,
    /// The upstream says that it failed.
    Failed,
    /// Nothing left the gate.
    NotSent,
    /// Nobody knows.
    Unknown,
}

impl Authorizer {
    /// A call has its answer, in which `found` was found. It may be released only if this says so.
    pub(crate) async fn release(
        self: &Arc<Self>,
        given: Given,
        how: How,
        found: &Label,
    ) -> Result<(), Refused> {
        let carries = self.carries(&given, found);
        let released = given.live.chain.lock().release(given.live.id(), &carries, clock::both());
        let (raised, denial) = match released {
            Ok(raised) => (raised, None),
            // Nothing goes to the task, and still it is recorded what was done.
            Err(denial) => (Vec::new(), Some(denial)),
        };
        let label = given.live.chain.lock().label(given.live.id()).cloned();
        let mut record = records::outcome(&given.record, how, label.as_ref(), given.live.is_ended());
        record.reason = denial.as_ref().map(|denial| format!("{}: {}", denial.code, denial.explanation));
        // INVARIANT: what raises a label is durable before it is released. A read of what its domain remembered already
        // raises none and has changed nothing, so nobody waits for the disk.
        let is_remembered = given.remembered.as_ref().is_some_and(|label| carries.is_within(label));
        let raises = !raised.is_empty() || !is_remembered;
        if given.effect == Effect::Read && !raises && self.home.labels.are_kept() {
            // After a crash in the next milliseconds it is unknown.
            self.standings.note_later(&self.spool, &given.record, record);
        } else {
            self.record(given.live.id(), &given.record, record).await?;
            self.remember(&given.live, &raised).await?;
        }
        match denial {
            Some(denial) => Err(denial.told()),
            None if given.spent.is_void() => Err(ended(&given.live)),
            None => Ok(()),
        }
    }

    /// Makes the outcome of the call that `decided` permitted durable.
    async fn record(&self, task: &TaskId, decided: &Arc<Record>, outcome: Record) -> Result<(), Refused> {
        let outcome = Arc::new(outcome);
        self.standings.closing(decided);
        match self.spool.record(outcome.clone()).await {
            Ok(recorded) => self.standings.closed(decided, recorded.seq()),
            Err(error) => {
                tracing::warn!(%task, %error, "an answer is kept back because it cannot be recorded");
                self.standings.note(&self.spool, decided, outcome);
                return Err(told(Code::Unrecorded));
            }
        }
        Ok(())
    }

    /// A call will have no answer. Where it may have been done it counts as done.
    pub(crate) async fn close(&self, given: Given, how: How) {
        let mut raised = Vec::new();
        if how != How::NotSent {
            let carries = self.carries(&given, &Label::default());
            raised = given.live.chain.lock().raise(given.live.id(), &carries);
        }
        let label = given.live.chain.lock().label(given.live.id()).cloned();
        let outcome = records::outcome(&given.record, how, label.as_ref(), given.live.is_ended());
        self.standings.note(&self.spool, &given.record, outcome);
        let _ = self.remember(&given.live, &raised).await;
    }

    /// What was written to the resource by now is in it as well.
    fn carries(&self, given: &Given, found: &Label) -> Label {
        let stored = given.record.resource.as_deref().and_then(|name| name.parse().ok());
        let stored = stored.map(|name| self.stored.of(&name)).unwrap_or_default();
        given.spent.carries(&stored, found)
    }

    /// Domains remember what their tasks have read, those of children and parents that it reached as well.
    async fn remember(&self, live: &Arc<Live>, raised: &[Raised]) -> Result<(), Refused> {
        for Raised { task, label } in raised {
            let Some(other) = self.home.book.get(task) else { continue };
            if task != live.id() {
                let record = records::raised(&other, label);
                self.spool.record(record).await.map_err(|_| told(Code::Unrecorded))?;
            }
            let (home, label) = (self.home.clone(), label.clone());
            let kept = tokio::task::spawn_blocking(move || home.labels.raise(&other.domain, &label)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%task, %error, "an answer is kept back because its domain's label cannot be kept");
                return Err(told(Code::Unrecorded));
            }
        }
        Ok(())
    }
}

fn ended(live: &Live) -> Refused {
    let code = match live.is_ended() {
        true => Code::TaskEnded,
        false => Code::TaskSuspended,
    };
    Denial::new(code, Reason::Done.as_str()).told()
}

impl How {
    pub(super) fn recorded(self) -> Outcome {
        match self {
            Self::Executed => Outcome::Executed,
            Self::Failed => Outcome::Failed,
            Self::NotSent => Outcome::NotSent,
            Self::Unknown => Outcome::Unknown,
        }
    }
}
