//! The two clocks of a decision.

use std::time::Duration;

use spiffe::Timestamp;

/// One moment on two clocks. The wall clock says which day it is and may be set; boot time only runs forward,
/// also while the machine sleeps (CLOCK_BOOTTIME), and decides how old something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// The time of day.
    pub wall: Timestamp,
    /// Since the machine started.
    pub boot: Duration,
}
