//! Counting what is held at once, by whom.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// How many places each key holds, and how many it may.
pub(super) struct Tally<K> {
    most: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

/// One place, given back when it is dropped.
pub(super) struct Place(Option<Box<dyn FnOnce() + Send>>);

impl<K: Clone + Eq + Hash + Send + 'static> Tally<K> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// A place for `key`, unless it holds all that it may.
    pub(super) fn take(&self, key: K) -> Option<Place> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(&key).copied().unwrap_or_default();
        if count >= self.most {
            return None;
        }
        held.insert(key.clone(), count + 1);
        drop(held);
        let held = self.held.clone();
        Some(Place(Some(Box::new(move || give_back(&held, &key)))))
    }
}

/// A key that holds nothing is forgotten, so that the map does not remember every stranger.
fn give_back<K: Eq + Hash>(held: &Mutex<HashMap<K, usize>>, key: &K) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(count) = held.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            held.remove(key);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_its_limit_waits_for_its_own_places_only() {
        let tally = Tally::new(2);
        let first = tally.take("a").unwrap();
        let _second = tally.take("a").unwrap();
        assert!(tally.take("a").is_none());
        assert!(tally.take("b").is_some());
        drop(first);
        assert!(tally.take("a").is_some());
        assert_eq!(tally.held.lock().unwrap().len(), 1, "who holds nothing is forgotten");
    }
}
