//! What is due, and when to wake: a pure function of what is held, what is wanted, and `now`.
//!
//! An SVID is renewed at half of its life, give or take a tenth of that half. One that ends with its
//! entry is not renewed at all. What could not be renewed is tried again, more and more rarely, and is
//! given up when it ends: what has expired is never served.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use registry::objects::EntryId;
use spiffe::Timestamp;

use crate::{alarms::Alarms, jitter::Seed};

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Validity {
    /// Its first moment.
    pub(crate) from: Timestamp,
    /// Its last.
    pub(crate) until: Timestamp,
}

impl Validity {
    /// The same for a certificate that was just made: its life begins now, and not as much earlier as
    /// certificates are dated back for clocks that are slow.
    pub(crate) fn beginning_at(self, now: Timestamp) -> Self {
        Self { from: self.from.max(now), ..self }
    }
}

/// Which entries need an SVID, and when.
#[derive(Debug)]
pub(crate) struct Rotation {
    seed: Seed,
    /// When a new SVID is due; none while one is on the way.
    due: Alarms,
    /// Those on the way.
    flying: HashSet<EntryId>,
    /// Until when the SVID lasts that is held.
    ends: Alarms,
    /// Tries that failed in a row.
    failures: HashMap<EntryId, u32>,
}

impl Rotation {
    /// Nothing is wanted yet.
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            seed,
            due: Alarms::default(),
            flying: HashSet::new(),
            ends: Alarms::default(),
            failures: HashMap::new(),
        }
    }

    /// This entry needs a new SVID at once. What is held for it goes on being held.
    pub(crate) fn want(&mut self, now: Timestamp, id: &EntryId) {
        self.failures.remove(id);
        self.due.set(id, now);
    }

    /// This entry needs no SVID any more, and what was held is not held any more.
    pub(crate) fn forget(&mut self, id: &EntryId) {
        self.withdraw(id);
        self.due.clear(id);
        self.flying.remove(id);
        self.failures.remove(id);
    }

    /// What was held for this entry is not any more.
    pub(crate) fn withdraw(&mut self, id: &EntryId) {
        self.ends.clear(id);
    }

    /// There is a new SVID. `last` is when the entry itself ends, so that nothing is renewed which
    /// could not last any longer.
    pub(crate) fn hold(&mut self, now: Timestamp, id: &EntryId, held: Validity, last: Option<Timestamp>) {
        self.failures.remove(id);
        self.flying.remove(id);
        self.ends.set(id, held.until);
        if last.is_some_and(|last| held.until + PRECISION >= last) {
            self.due.clear(id);
        } else {
            self.due.set(id, renewal(self.seed, id.as_str(), held).max(now + SHORTEST));
        }
    }

    /// The last try failed.
    pub(crate) fn fail(&mut self, now: Timestamp, id: &EntryId) {
        self.flying.remove(id);
        let failures = self.failures.entry(id.clone()).or_default();
        *failures = failures.saturating_add(1);
        self.due.set(id, now + self.seed.back_off(id.as_str(), *failures, RETRY, LONGEST_RETRY));
    }

    /// Whatever waits for another try is tried now: what made it fail is gone.
    pub(crate) fn hurry(&mut self, now: Timestamp) {
        for (id, _) in self.failures.drain() {
            // What is on the way has no moment, and is left alone.
            if self.due.get(&id).is_some() {
                self.due.set(&id, now);
            }
        }
    }

    /// Takes what is due now. Each is due again only when its try has ended, either way.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<EntryId> {
        let due = self.due.take_until(now);
        self.flying.extend(due.iter().cloned());
        due
    }

    /// Takes what has ended by now.
    pub(crate) fn take_ended(&mut self, now: Timestamp) -> Vec<EntryId> {
        self.ends.take_until(now)
    }

    /// When something is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.next()
    }

    /// When something ends.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.ends.next()
    }

    /// For how many entries, about, an SVID is held or will come.
    pub(crate) fn len(&self) -> usize {
        self.ends.len().max(self.due.len() + self.flying.len())
    }

    /// Whether an SVID is held for this entry.
    pub(crate) fn holds(&self, id: &EntryId) -> bool {
        self.ends.get(id).is_some()
    }

    /// Whether a new SVID for this entry will come without being wanted again: it is due, or on the way.
    pub(crate) fn is_expected(&self, id: &EntryId) -> bool {
        self.due.get(id).is_some() || self.flying.contains(id)
    }
}

/// When a certificate is renewed: at half of its life, give or take a tenth of that half.
pub(crate) fn renewal(seed: Seed, whose: &str, held: Validity) -> Timestamp {
    let half = held.until.since(held.from) / 2;
    let part = 0.9 + seed.share((whose, held.until)) * 0.2;
    held.from + half.mul_f64(part)
}

/// Certificates count seconds.
const PRECISION: Duration = Duration::from_secs(1);
/// However short a life is, its renewal is no busy loop.
const SHORTEST: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::at;

    const SEED: Seed = Seed(42);

    fn id(n: u32) -> EntryId {
        format!("e{n}").parse().unwrap()
    }

    #[test]
    fn a_short_life_is_not_shortened_by_the_time_it_is_dated_back() {
        let fresh = valid(-10, 6).beginning_at(at(0));
        assert!(renewal(SEED, "e1", fresh) >= at(2), "{:?}", renewal(SEED, "e1", fresh));
    }

    fn valid(from: i64, until: i64) -> Validity {
        Validity { from: at(from), until: at(until) }
    }

    #[test]
    fn an_svid_is_renewed_at_half_of_its_life_but_not_all_in_the_same_moment() {
        let renewals: BTreeSet<_> =
            (0..100).map(|n| renewal(SEED, id(n).as_str(), valid(0, 3600)).since(at(0)).as_secs()).collect();
        assert!(renewals.iter().all(|second| (1620..=1980).contains(second)), "{renewals:?}");
        assert!(renewals.len() > 50);
    }

    #[test]
    fn what_is_wanted_is_due_once_until_its_try_ends() {
        let mut rotation = Rotation::new(SEED);
        rotation.want(at(0), &id(1));
        assert_eq!(rotation.take_due(at(0)), [id(1)]);
        assert_eq!(rotation.take_due(at(1000)), [], "its try is on the way");
        rotation.hold(at(1), &id(1), valid(1, 3601), None);
        assert_eq!(rotation.take_due(at(1500)), []);
        assert_eq!(rotation.take_due(at(2000)), [id(1)]);
    }

    #[test]
    fn what_lasts_as_long_as_its_entry_is_not_renewed() {
        let mut rotation = Rotation::new(SEED);
        rotation.hold(at(0), &id(1), valid(0, 100), Some(at(100)));
        assert_eq!(rotation.take_due(at(99)), []);
        assert_eq!(rotation.take_ended(at(100)), [id(1)]);
        assert_eq!((rotation.next_due(), rotation.next_end()), (None, None));
    }

    #[test]
    fn failures_make_tries_rarer_and_a_connection_makes_them_now() {
        let mut rotation = Rotation::new(SEED);
        rotation.want(at(0), &id(1));
        let mut now = at(0);
        for _ in 0..12 {
            assert_eq!(rotation.take_due(now), [id(1)]);
            rotation.fail(now, &id(1));
            let next = rotation.next_due().expect("tried again");
            assert!(next > now && next <= now + LONGEST_RETRY);
            now = next;
        }
        rotation.take_due(now);
        rotation.fail(now, &id(1));
        rotation.hurry(now);
        assert_eq!(rotation.take_due(now), [id(1)]);
    }

    #[test]
    fn what_is_forgotten_leaves_nothing_behind() {
        let mut rotation = Rotation::new(SEED);
        rotation.hold(at(0), &id(1), valid(0, 100), None);
        rotation.fail(at(1), &id(1));
        rotation.forget(&id(1));
        assert_eq!((rotation.due.len(), rotation.ends.len(), rotation.failures.len()), (0, 0, 0));
    }

    proptest! {
        /// Whatever happens in whatever order, nothing is held beyond its end, and what is held has a
        /// next step unless one is on the way.
        #[test]
        fn nothing_is_held_beyond_its_end(steps in proptest::collection::vec((0..4_u32, 0..6_u8, 1..200_i64), 1..80)) {
            let mut rotation = Rotation::new(SEED);
            let mut now = 0;
            for (n, what, amount) in steps {
                match what {
                    0 => rotation.want(at(now), &id(n)),
                    1 => rotation.hold(at(now), &id(n), valid(now, now + amount), None),
                    2 => rotation.fail(at(now), &id(n)),
                    3 => rotation.forget(&id(n)),
                    4 => drop(rotation.take_due(at(now))),
                    _ => now += amount,
                }
                rotation.take_ended(at(now));
                prop_assert!(rotation.next_end().is_none_or(|end| end > at(now)));
                for n in 0..4 {
                    prop_assert!(!rotation.holds(&id(n)) || rotation.is_expected(&id(n)));
                }
            }
        }
    }
}
