//! Permits: made from a verdict that is durable, spent once, by value, within a second.

use std::time::Duration;

use audit::Recorded;
use registry::{
    objects::{Declassification, Sha256},
    scope::{Label, ToolName},
};

use crate::{
    call::ToolCall,
    chain::Epoch,
    denial::{Code, Denial},
    now::Now,
    verdict::{Decision, Stored, Verdict},
};

/// The right to make one call, now. There is no other way to one than a recorded verdict; it cannot be cloned,
/// and spending it uses it up.
#[must_use = "a permit that is not spent permits nothing"]
#[derive(Debug)]
pub struct Permit {
    tool: ToolName,
    arguments: Sha256,
    epoch: (Epoch, u64),
    made: Duration,
    stores: Option<Stored>,
    result: Label,
    lowers: Option<Declassification>,
}

/// A call that may be forwarded now.
#[must_use = "the call's outcome must be recorded"]
#[derive(Debug)]
pub struct Spent {
    epoch: (Epoch, u64),
    /// What its result adds to the task, at least.
    pub result: Label,
    lowers: Option<Declassification>,
}

/// How long a permit lives.
pub const LIFETIME: Duration = Duration::from_secs(1);

impl Permit {
    /// The permit of a verdict, or its denial. `_recorded` is the proof that the verdict's record is durable: on this
    /// node's disk, and where [`Verdict::needs_acknowledgement`] says so at the server too.
    pub fn from_record(verdict: Verdict, _recorded: Recorded, now: Now) -> Result<Self, Denial> {
        let (stores, lowers, epoch) = match (verdict.decision, verdict.epoch) {
            (Decision::Permit { stores, lowers, .. }, Some(epoch)) => (stores, lowers, epoch),
            (Decision::Permit { .. }, None) => {
                return Err(Denial::new(Code::NoTask, "the verdict is about no task"));
            }
            (Decision::Deny(denial), _) => return Err(denial),
        };
        let Verdict { tool, arguments, result, .. } = verdict;
        Ok(Self {
            tool,
            arguments,
            epoch,
            made: now.boot,
            stores,
            result,
            lowers: lowers.map(|lowers| lowers.drop),
        })
    }

    /// What must be joined into the resource before the permit is spent.
    pub fn stores(&self) -> Option<&Stored> {
        self.stores.as_ref()
    }

    /// Uses it for the call that it was given for: once, within its second, while the task stands as it stood.
    pub fn spend(self, call: &ToolCall, now: Now) -> Result<Spent, Denial> {
        if *call.tool() != self.tool || !call.arguments().digest().matches(&self.arguments) {
            return Err(Denial::new(Code::PermitExpired, "the permit was given for another call"));
        }
        if now.boot.saturating_sub(self.made) > LIFETIME {
            return Err(Denial::new(
                Code::PermitExpired,
                "the permit was not spent within its second; ask again",
            ));
        }
        if self.is_void() {
            let why = "the task ended, or was suspended or resumed, since the permit was given";
            return Err(Denial::new(Code::TaskEnded, why));
        }
        Ok(Spent { epoch: self.epoch, result: self.result, lowers: self.lowers })
    }

    /// Whether the task has changed its state since.
    pub fn is_void(&self) -> bool {
        self.epoch.0.now() != self.epoch.1
    }
}

impl Spent {
    /// What is joined into the task before an answer is released: what the tool and its resource are labelled
    /// with, what was written to the resource up to now (`stored`), less what was recorded as lowered, and what was
    /// found in the answer.
    pub fn carries(&self, stored: &Label, found: &Label) -> Label {
        let stored = self.lowers.as_ref().map_or_else(|| stored.clone(), |lowers| lowers.lower(stored));
        self.result.join(&stored).join(found)
    }

    /// Whether forwarding must stop: the task has changed its state since.
    pub fn is_void(&self) -> bool {
        self.epoch.0.now() != self.epoch.1
    }
}
