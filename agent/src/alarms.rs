//! Alarms: one moment for each thing, such as an entry, in order.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use registry::objects::EntryId;
use spiffe::Timestamp;

/// At most one moment for each thing; the next one is found at once.
#[derive(Debug)]
pub(crate) struct Alarms<K = EntryId> {
    of: HashMap<K, Timestamp>,
    /// INVARIANT: the same pairs as in `of`.
    order: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Alarms<K> {
    fn default() -> Self {
        Self { of: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Clone + Hash + Ord> Alarms<K> {
    /// Sets the thing's moment, in the place of any other.
    pub(crate) fn set(&mut self, id: &K, at: Timestamp) {
        self.clear(id);
        self.of.insert(id.clone(), at);
        self.order.insert((at, id.clone()));
    }

    /// The thing has no moment any more.
    pub(crate) fn clear(&mut self, id: &K) {
        if let Some(at) = self.of.remove(id) {
            self.order.remove(&(at, id.clone()));
        }
    }

    /// The thing's moment.
    pub(crate) fn get(&self, id: &K) -> Option<Timestamp> {
        self.of.get(id).copied()
    }

    /// Takes away the things whose moment has come, the earliest first.
    pub(crate) fn take_until(&mut self, now: Timestamp) -> Vec<K> {
        let mut taken = Vec::new();
        while let Some((at, id)) = self.order.pop_first() {
            if at > now {
                self.order.insert((at, id));
                break;
            }
            self.of.remove(&id);
            taken.push(id);
        }
        taken
    }

    /// The next moment of all.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// For how many things there is one.
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::at;

    proptest! {
        #[test]
        fn an_alarm_comes_once_at_its_last_setting(steps in proptest::collection::vec((0..5_u8, proptest::option::of(0..50_i64)), 0..60)) {
            let (mut alarms, mut expected) = (Alarms::default(), HashMap::new());
            for (n, step) in steps {
                let id: EntryId = format!("e{n}").parse().unwrap();
                match step {
                    Some(moment) => { alarms.set(&id, at(moment)); expected.insert(id, at(moment)); }
                    None => { alarms.clear(&id); expected.remove(&id); }
                }
                prop_assert_eq!(&alarms.of, &expected);
                prop_assert_eq!(alarms.next(), expected.values().min().copied());
            }
            for now in (0..60).map(at) {
                for id in alarms.take_until(now) {
                    prop_assert!(expected.remove(&id).is_some_and(|at| at <= now));
                }
                prop_assert!(expected.values().all(|at| *at > now));
            }
            prop_assert_eq!((alarms.len(), alarms.order.len()), (0, 0));
        }
    }
}
