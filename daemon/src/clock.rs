//! The wall clock, read nowhere else, and checked against the monotonic one.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A difference between the clocks beyond this is a step; what time daemons do gently stays below.
const STEP_MILLIS: i64 = 1000;

static START: LazyLock<(Instant, i64)> = LazyLock::new(|| (Instant::now(), wall_millis()));
static KNOWN_DRIFT: AtomicI64 = AtomicI64::new(0);

/// Milliseconds since 1970-01-01 00:00:00 UTC. A step of the wall clock is believed and logged:
/// certificates are judged by it, here and elsewhere.
pub fn now_unix_millis() -> i64 {
    let (started, start_wall) = *START;
    let wall = wall_millis();
    let elapsed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    let drift = wall.saturating_sub(start_wall.saturating_add(elapsed));
    if let Some(step) = step(KNOWN_DRIFT.load(Ordering::Relaxed), drift) {
        KNOWN_DRIFT.store(drift, Ordering::Relaxed);
        tracing::warn!(
            step_ms = step,
            "the wall clock moved against the monotonic clock: it was set, or the machine slept"
        );
    }
    wall
}

/// How far the wall clock stepped, if it did.
fn step(known_drift: i64, drift: i64) -> Option<i64> {
    let step = drift.saturating_sub(known_drift);
    (step.saturating_abs() > STEP_MILLIS).then_some(step)
}

fn wall_millis() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_noticed_once_and_gentle_corrections_are_not() {
        assert_eq!(step(0, 0), None);
        assert_eq!(step(0, 900), None);
        assert_eq!(step(0, 3_600_000), Some(3_600_000));
        assert_eq!(step(3_600_000, 3_600_010), None);
        assert_eq!(step(3_600_000, 0), Some(-3_600_000));
    }

    #[test]
    fn the_clock_moves_on() {
        let before = now_unix_millis();
        assert!(before > 1_700_000_000_000);
        assert!(now_unix_millis() >= before);
    }
}
