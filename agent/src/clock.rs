//! The wall clock, read for the shells; logic gets it as `now`.

use spiffe::Timestamp;

/// The present moment.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_millis(daemon::now_unix_millis())
}
