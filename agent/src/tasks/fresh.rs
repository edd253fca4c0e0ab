//! How old the server's word is. Pure: boot time is an argument.
//!
//! The age counts from before the server was asked, so whatever kept the answer, or this process, counts too: an agent
//! that was stopped wakes up stale. It counts on CLOCK_BOOTTIME, which nobody sets and which runs while a machine sleeps.
//! A head is worth something only when the view has been followed to it.

use std::time::Duration;

use registry::{LogId, Revision};

/// What the server said last, and up to where it has been followed.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// Those not reached yet, the oldest first.
    ahead: Vec<Head>,
    as_of: Option<Duration>,
    /// Which log the view is of.
    log: Option<LogId>,
    reached: Revision,
}

/// How new the server's view was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    /// Boot time before it was asked.
    pub(crate) asked: Duration,
    /// Its log.
    pub(crate) log: LogId,
    /// The log's newest revision.
    pub(crate) revision: Revision,
}

impl Heads {
    /// The server answered.
    pub(crate) fn answered(&mut self, head: Head) {
        if self.ahead.len() == MOST {
            // Reaching a later one is reaching this one.
            self.ahead.remove(0);
        }
        self.ahead.push(head);
        self.settle();
    }

    /// The view was followed to here; `None` where there is none any more.
    pub(crate) fn followed(&mut self, at: Option<(&LogId, Revision)>) {
        match at {
            Some((log, at)) => {
                if self.log.as_ref() != Some(log) {
                    // Of another log nothing is known yet.
                    (self.log, self.as_of) = (Some(log.clone()), None);
                }
                self.reached = at;
                self.settle();
            }
            None => *self = Self::default(),
        }
    }

    /// Of which moment the view is known to be, by boot time.
    pub(crate) fn as_of(&self) -> Option<Duration> {
        self.as_of
    }

    fn settle(&mut self) {
        let Some(log) = &self.log else { return };
        for head in &self.ahead {
            if head.log == *log && head.revision <= self.reached {
                // An answer that came late says less than a later one.
                self.as_of = self.as_of.max(Some(head.asked));
            }
        }
        self.ahead.retain(|head| head.log != *log || head.revision > self.reached);
    }
}

/// More answers than come while a snapshot is read.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(name: &str) -> LogId {
        LogId(name.to_owned())
    }

    fn head(asked: u64, revision: u64) -> Head {
        Head { asked: Duration::from_secs(asked), log: log("a"), revision: Revision(revision) }
    }

    fn seconds(heads: &Heads) -> Option<u64> {
        heads.as_of().map(|at| at.as_secs())
    }

    #[test]
    fn a_head_counts_from_before_it_was_asked_for_and_when_it_is_reached() {
        let mut heads = Heads::default();
        heads.answered(head(10, 7));
        assert_eq!(seconds(&heads), None, "no view yet");
        heads.followed(Some((&log("a"), Revision(6))));
        assert_eq!(seconds(&heads), None, "not reached");
        heads.followed(Some((&log("a"), Revision(7))));
        assert_eq!(seconds(&heads), Some(10));
        heads.answered(head(11, 7));
        assert_eq!(seconds(&heads), Some(11));
    }

    #[test]
    fn an_answer_that_was_held_up_makes_nothing_younger() {
        let mut heads = Heads::default();
        heads.followed(Some((&log("a"), Revision(7))));
        heads.answered(head(20, 7));
        heads.answered(head(12, 7));
        assert_eq!(seconds(&heads), Some(20));
    }

    #[test]
    fn another_log_or_none_begins_anew() {
        let mut heads = Heads::default();
        heads.followed(Some((&log("a"), Revision(7))));
        heads.answered(head(20, 7));
        heads.followed(Some((&log("b"), Revision(9))));
        assert_eq!(seconds(&heads), None);
        heads.followed(None);
        assert_eq!(seconds(&heads), None);
    }

    proptest! {
        /// However answers and deltas are held up, lost or reordered, a view is never called newer than the moment at
        /// which the newest head that it has reached was asked for.
        #[test]
        fn a_view_is_never_called_newer_than_it_is(
            steps in prop::collection::vec((any::<bool>(), 0..50_u64, 0..20_u64), 1..80),
        ) {
            let mut heads = Heads::default();
            let (mut told, mut reached) = (Vec::new(), 0);
            for (is_answer, asked, revision) in steps {
                if is_answer {
                    told.push((asked, revision));
                    heads.answered(head(asked, revision));
                } else {
                    reached = reached.max(revision);
                    heads.followed(Some((&log("a"), Revision(reached))));
                }
                let newest = told.iter().filter(|(_, revision)| *revision <= reached).map(|(asked, _)| *asked).max();
                prop_assert!(seconds(&heads) <= newest);
            }
        }
    }
}
