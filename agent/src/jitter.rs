//! Jitter and back-off: the same for the same seed, different for different agents and things, so that
//! what happened to all at once does not happen to all at once again.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// Where an agent's jitter comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// A number from 0 to 1 that belongs to `what`.
    pub(crate) fn share(self, what: impl Hash) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.0, what).hash(&mut hasher);
        // The upper 53 bits, which is what a float holds.
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let share = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
        share
    }

    /// How long to wait after so many failures in a row: `shortest`, doubled each time up to `longest`,
    /// less up to a half.
    pub(crate) fn back_off(
        self,
        what: impl Hash,
        failures: u32,
        shortest: Duration,
        longest: Duration,
    ) -> Duration {
        let doubled =
            shortest.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(longest).mul_f64(1.0 - self.share((what, failures)) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_its_end_and_differs_between_agents() {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        let waits: Vec<_> =
            (1..80).map(|failures| Seed(7).back_off("server", failures, shortest, longest)).collect();
        for (n, wait) in waits.iter().enumerate() {
            let full = (shortest * 2_u32.pow(n.min(20) as u32)).min(longest);
            assert!(*wait <= full && *wait >= full / 2, "{n}: {wait:?}");
        }
        assert_ne!(waits[3], Seed(8).back_off("server", 4, shortest, longest));
        assert_eq!(waits[3], Seed(7).back_off("server", 4, shortest, longest));
    }

    #[test]
    fn a_share_lies_between_nothing_and_all() {
        let shares: Vec<_> = (0..1000).map(|n| Seed(1).share(n)).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        assert!(shares.iter().any(|share| *share < 0.1) && shares.iter().any(|share| *share > 0.9));
    }
}
