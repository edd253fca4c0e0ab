//! Which entries match a process: those whose selectors are all among its facts.
//!
//! Each entry stands under one of its selectors, the one that fewest others stand under. So a process
//! is compared with the entries under its own few facts, and not with all there are.
//!
//! It is public because `writ attest test` rehearses with it what an agent would do.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use registry::objects::{Entry, EntryId};
use spiffe::Selector;

/// What was proved about a process: each fact once, in order. A clone shares them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Facts(Arc<[Selector]>);

impl Facts {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Selector> {
        self.0.iter()
    }

    /// Whether this was proved.
    pub fn has(&self, selector: &Selector) -> bool {
        self.0.binary_search(selector).is_ok()
    }

    /// Whether an entry with these selectors matches. One without selectors matches nobody.
    pub fn have_all(&self, selectors: &BTreeSet<Selector>) -> bool {
        !selectors.is_empty() && selectors.iter().all(|selector| self.has(selector))
    }
}

impl FromIterator<Selector> for Facts {
    fn from_iter<T: IntoIterator<Item = Selector>>(facts: T) -> Self {
        let sorted: BTreeSet<_> = facts.into_iter().collect();
        Self(sorted.into_iter().collect())
    }
}

/// The entries of this node, found by facts.
#[derive(Debug, Default)]
pub struct Index {
    entries: HashMap<EntryId, Indexed>,
    under: HashMap<Selector, BTreeSet<EntryId>>,
}

/// An entry that does not match, and what is missing for it.
pub type Almost = (Arc<Entry>, Vec<Selector>);

#[derive(Debug)]
struct Indexed {
    entry: Arc<Entry>,
    /// The selector that it stands under; none for one that matches nobody.
    under: Option<Selector>,
}

impl Index {
    /// Puts an entry in, or in the place of its earlier self, which is given back.
    pub(crate) fn put(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let before = self.remove(&entry.id);
        let crowd = |selector: &Selector| self.under.get(selector).map_or(0, BTreeSet::len);
        let under = entry.selectors.iter().min_by_key(|selector| crowd(selector)).cloned();
        if let Some(selector) = &under {
            self.under.entry(selector.clone()).or_default().insert(entry.id.clone());
        }
        self.entries.insert(entry.id.clone(), Indexed { entry, under });
        before
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, id: &EntryId) -> Option<Arc<Entry>> {
        let Indexed { entry, under } = self.entries.remove(id)?;
        if let Some(selector) = under
            && let Some(crowd) = self.under.get_mut(&selector)
        {
            crowd.remove(id);
            if crowd.is_empty() {
                self.under.remove(&selector);
            }
        }
        Some(entry)
    }

    /// The entry of this name.
    pub(crate) fn get(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        self.entries.get(id).map(|indexed| &indexed.entry)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values().map(|indexed| &indexed.entry)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries that match, the oldest first: a workload's default identity stays the same when it
    /// gets another one.
    pub fn matches(&self, facts: &Facts) -> Vec<Arc<Entry>> {
        let mut matching: Vec<_> = facts
            .iter()
            .filter_map(|fact| self.under.get(fact))
            .flatten()
            .filter_map(|id| self.get(id))
            .filter(|entry| facts.have_all(&entry.selectors))
            .cloned()
            .collect();
        matching.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        matching
    }

    /// Some entries that would match with a little more, the nearest first: each with what is missing.
    pub fn almost(&self, facts: &Facts) -> Vec<Almost> {
        let missing = |entry: &Entry| -> Vec<_> {
            entry.selectors.iter().filter(|selector| !facts.has(selector)).cloned().collect()
        };
        let mut almost: Vec<_> = self
            .iter()
            .map(|entry| (entry.clone(), missing(entry)))
            .filter(|(entry, missing)| {
                missing.len() == 1 || (!missing.is_empty() && missing.len() < entry.selectors.len())
            })
            .collect();
        almost.sort_by(|(a, a_missing), (b, b_missing)| {
            (a_missing.len(), &a.id).cmp(&(b_missing.len(), &b.id))
        });
        almost.truncate(ALMOST);
        almost
    }
}

impl FromIterator<Arc<Entry>> for Index {
    fn from_iter<T: IntoIterator<Item = Arc<Entry>>>(entries: T) -> Self {
        let mut index = Self::default();
        for entry in entries {
            index.put(entry);
        }
        index
    }
}

/// So many entries that almost match are shown.
const ALMOST: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;
    use crate::testing::entry;

    fn selectors(numbers: &BTreeSet<u8>) -> Vec<String> {
        numbers.iter().map(|n| format!("unix:gid:{n}")).collect()
    }

    proptest! {
        /// However entries come, change and go, the index finds what comparing with all of them finds.
        #[test]
        fn the_index_agrees_with_looking_at_every_entry(
            steps in proptest::collection::vec((0..12_u8, proptest::option::of(btree_set(0..6_u8, 0..4))), 1..60),
            process in btree_set(0..6_u8, 0..5),
        ) {
            let facts: Facts = selectors(&process).iter().map(|s| s.parse().unwrap()).collect();
            let mut index = Index::default();
            let mut all = std::collections::BTreeMap::new();
            for (n, step) in steps {
                let id: EntryId = format!("e{n}").parse().unwrap();
                match step {
                    Some(wants) => {
                        let wants = selectors(&wants);
                        let new = entry(&format!("e{n}"), "/a", &wants.iter().map(String::as_str).collect::<Vec<_>>());
                        prop_assert_eq!(index.put(new.clone()), all.insert(id, new));
                    }
                    None => prop_assert_eq!(index.remove(&id), all.remove(&id)),
                }
                let brute: Vec<_> = all.values().filter(|e| facts.have_all(&e.selectors)).map(|e| e.id.clone()).collect();
                let mut found: Vec<_> = index.matches(&facts).iter().map(|e| e.id.clone()).collect();
                found.sort();
                prop_assert_eq!(found, brute);
                prop_assert_eq!(index.len(), all.len());
                prop_assert!(index.under.values().all(|crowd| !crowd.is_empty()));
            }
        }
    }

    #[test]
    fn an_entry_that_asks_for_nothing_matches_nobody() {
        let mut index = Index::default();
        index.put(entry("e", "/a", &[]));
        assert!(index.matches(&["unix:uid:0".parse().unwrap()].into_iter().collect()).is_empty());
    }

    #[test]
    fn entries_that_share_a_selector_stand_under_what_tells_them_apart() {
        let mut index = Index::default();
        for n in 0..1000 {
            index.put(entry(&format!("e{n}"), "/a", &["unix:uid:1000", &format!("unix:path:/bin/{n}")]));
        }
        let most = index.under.values().map(BTreeSet::len).max();
        assert_eq!(most, Some(1), "a process of this user is compared with very few of them");
    }

    #[test]
    fn the_oldest_entry_comes_first() {
        let mut index = Index::default();
        for (id, created) in [("b", 7), ("a", 7), ("c", 1)] {
            let mut entry = Arc::unwrap_or_clone(entry(id, "/a", &["unix:uid:1"]));
            entry.created_at = spiffe::Timestamp::from_unix_seconds(created);
            index.put(Arc::new(entry));
        }
        let order: Vec<_> = index.matches(&["unix:uid:1".parse().unwrap()].into_iter().collect());
        assert_eq!(order.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["c", "a", "b"]);
    }
}
