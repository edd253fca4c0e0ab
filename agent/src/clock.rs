//! The clocks, read for the shells; logic gets them as `now`.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use spiffe::Timestamp;

/// The present moment.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_millis(daemon::now_unix_millis())
}

/// Since the machine started, sleep included. Nobody sets this clock, so the age of something is counted on it.
pub(crate) fn boot() -> Duration {
    let at = clock_gettime(ClockId::Boottime);
    Duration::new(at.tv_sec.unsigned_abs(), u32::try_from(at.tv_nsec).unwrap_or_default())
}

/// Both at once, for decisions.
pub(crate) fn both() -> authz::Now {
    authz::Now { wall: now(), boot: boot() }
}
