//! [`Failures`]: whether an attestor works, told to the log when that changes.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Evidence;

/// How one attestor fares.
#[derive(Debug, Default)]
pub(super) struct Failures {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the log knows of the failure that lasts now.
    is_told: bool,
    last_told: Option<Instant>,
    /// Why it failed when it was last asked, if it did.
    current: Option<String>,
}

impl Failures {
    /// Takes note of an answer; whether it was a failure. The log hears of the first one, and of the first
    /// after it had recovered, but not more often than once a minute, whatever processes do to provoke it.
    pub(super) fn note(&self, attestor: &'static str, answer: &Evidence) -> bool {
        {
            let mut state = self.state.lock();
            state.current.clone_from(&answer.failure);
            state.is_told &= answer.failure.is_some();
        }
        let Some(reason) = &answer.failure else { return false };
        if self.is_news(Instant::now()) {
            tracing::warn!(attestor, %reason,
                "an attestor fails: processes go without its selectors until it answers again");
        }
        true
    }

    /// Why it failed when it was last asked, if it did.
    pub(super) fn current(&self) -> Option<String> {
        self.state.lock().current.clone()
    }

    /// Whether the failure at this moment is worth a line.
    pub(super) fn is_news(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let is_time = state.last_told.is_none_or(|told| now.duration_since(told) >= QUIET);
        let is_news = !state.is_told && is_time;
        if is_news {
            (state.is_told, state.last_told) = (true, Some(now));
        }
        is_news
    }
}

const QUIET: Duration = Duration::from_secs(60);
