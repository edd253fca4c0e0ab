//! What the operator hears of calls that are refused because their evidence cannot be kept: a full disk refuses every
//! call of every task, and must not fill the log besides.

use std::{mem, time::Duration};

use parking_lot::Mutex;
use registry::objects::TaskId;

use crate::{clock, spool::Unrecorded};

/// What is lacking for a call that nothing forbids.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lack {
    /// The key under which arguments have a digest.
    #[error("its record could not name its arguments: the server has not told the tenant's key yet")]
    Key,
    /// A durable record.
    #[error("it cannot be recorded: {0}")]
    Record(Unrecorded),
    /// A durable label of what it writes to.
    #[error("the label of a store cannot be kept: {0}")]
    Label(String),
}

/// What was said of late.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Vec<Said>>);

/// One reason, for as long as the agent runs; there are as many as there are kinds of [`Lack`].
#[derive(Debug)]
struct Said {
    kind: Kind,
    at: Duration,
    untold: u64,
}

/// What counts as the same reason, however it is worded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Key,
    Record(Unrecorded),
    Label,
}

/// Each reason is told no more often than this.
const EVERY: Duration = Duration::from_secs(60);

impl Complaints {
    /// Logs it, or counts it for the next line of this reason.
    pub(super) fn tell(&self, lack: Lack, task: &TaskId) {
        if let Some(untold) = self.is_due(lack.kind(), clock::boot()) {
            tracing::warn!(%task, untold, "a call is refused because {lack}");
        }
    }

    /// Whether it may be told now, and then how often it was not told before.
    fn is_due(&self, kind: Kind, now: Duration) -> Option<u64> {
        let mut all = self.0.lock();
        let Some(said) = all.iter_mut().find(|said| said.kind == kind) else {
            all.push(Said { kind, at: now, untold: 0 });
            return Some(0);
        };
        if now.saturating_sub(said.at) < EVERY {
            said.untold += 1;
            return None;
        }
        said.at = now;
        Some(mem::take(&mut said.untold))
    }
}

impl Lack {
    fn kind(&self) -> Kind {
        match self {
            Self::Key => Kind::Key,
            Self::Record(why) => Kind::Record(*why),
            Self::Label(_) => Kind::Label,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_one_line_a_minute_with_the_count_of_what_was_not_told() {
        let complaints = Complaints::default();
        let (full, busy) = (Kind::Record(Unrecorded::Full), Kind::Record(Unrecorded::Busy));
        let at = |millis| Duration::from_millis(millis);
        let told: Vec<_> = (0..120_001).filter_map(|ms| complaints.is_due(full, at(ms))).collect();
        assert_eq!(told, [0, 59_999, 59_999], "in two minutes and a moment, once a millisecond");
        assert_eq!(complaints.is_due(busy, at(120_001)), Some(0), "another reason is another line");
        assert_eq!(complaints.is_due(Kind::Label, at(120_001)), Some(0));
        assert_eq!(complaints.0.lock().len(), 3);
    }
}
