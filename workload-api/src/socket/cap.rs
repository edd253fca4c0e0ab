//! Caps: how many of something one user, or one process, may hold at a time.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;

/// Counts what each holder holds, and gives no more than `most` places to one.
pub(crate) struct Cap<K> {
    most: usize,
    held: Mutex<HashMap<K, usize>>,
}

/// One place of one holder; free again when it is dropped.
pub(crate) struct Place<K: Copy + Eq + Hash> {
    holder: K,
    cap: Arc<Cap<K>>,
}

impl<K: Copy + Eq + Hash> Cap<K> {
    /// At most this many places for each holder.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// A place, unless the holder has all it may have.
    pub(crate) fn take(self: &Arc<Self>, holder: K) -> Option<Place<K>> {
        let mut held = self.held.lock();
        let count = held.entry(holder).or_default();
        if *count >= self.most {
            if *count == 0 {
                held.remove(&holder);
            }
            return None;
        }
        *count += 1;
        Some(Place { holder, cap: self.clone() })
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.cap.held.lock();
        if let Some(count) = held.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_has_its_own_places_and_gets_them_back() {
        let cap = Cap::new(2);
        let (first, second) = (cap.take(1000), cap.take(1000));
        assert!(first.is_some() && second.is_some());
        assert!(cap.take(1000).is_none());
        assert!(cap.take(1001).is_some(), "another's places are another's");
        drop(first);
        assert!(cap.take(1000).is_some());
        drop(second);
        assert!(cap.held.lock().is_empty(), "nothing is kept of those who hold nothing");
        assert!(Cap::new(0).take(1).is_none());
    }
}
