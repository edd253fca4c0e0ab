//! [`Recent`]: a bounded memory of what was used lately.

use std::{collections::HashMap, hash::Hash};

/// Remembers at least the last `half` keys that were put or asked for, and never more than twice as many.
///
/// Two generations instead of a linked list: what is asked for moves to the young one; when that is full
/// it becomes the old one, and what was old and not asked for is forgotten.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    pub(crate) fn new(half: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(key.clone(), value.clone());
        Some(value)
    }

    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Forgets those that are no longer worth keeping.
    pub(crate) fn retain(&mut self, is_worth_keeping: impl Fn(&V) -> bool) {
        self.young.retain(|_, value| is_worth_keeping(value));
        self.old.retain(|_, value| is_worth_keeping(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut recent = Recent::new(10);
        recent.put(0, "kept");
        for key in 1..10_000 {
            recent.put(key, "flood");
            assert_eq!(recent.get(&0), Some("kept"));
            assert!(recent.young.len() + recent.old.len() <= 20);
        }
        assert_eq!(recent.get(&5), None);
        assert_eq!(recent.get(&9_999), Some("flood"));
    }

    #[test]
    fn what_is_not_worth_keeping_goes_from_both_generations() {
        let mut recent = Recent::new(2);
        (0..4).for_each(|key| recent.put(key, key));
        recent.retain(|value| value % 2 == 0);
        assert_eq!([0, 1, 2, 3].map(|key| recent.get(&key)), [Some(0), None, Some(2), None]);
    }

    #[test]
    fn the_latest_value_wins_also_over_one_in_the_old_generation() {
        let mut recent = Recent::new(1);
        recent.put("a", 1);
        recent.put("b", 1);
        recent.put("a", 2);
        recent.put("c", 1);
        assert_eq!(recent.get(&"a"), Some(2));
    }
}
