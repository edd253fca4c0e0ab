//! [`Wanted`]: which facts any entry asks for, so that no other is read.

use std::collections::HashMap;

use spiffe::Selector;

/// The kinds of selectors that entries use, with how many use each; a change costs what it touches.
///
/// A kind is the attestor and the first word of the value: `unix` and `sha256`.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    everything: bool,
    counts: HashMap<Box<str>, HashMap<Box<str>, usize>>,
}

impl Wanted {
    /// Whatever there is, for explaining a process to an administrator.
    pub fn everything() -> Self {
        Self { everything: true, counts: HashMap::new() }
    }

    /// An entry came that has this selector.
    pub fn add(&mut self, selector: &Selector) {
        let facts = self.counts.entry(selector.kind().into()).or_default();
        *facts.entry(first_word(selector).into()).or_default() += 1;
    }

    /// An entry that has this selector went. Only what was added may be removed.
    pub fn remove(&mut self, selector: &Selector) {
        let Some(facts) = self.counts.get_mut(selector.kind()) else { return };
        let Some(count) = facts.get_mut(first_word(selector)) else { return };
        *count -= 1;
        if *count == 0 {
            facts.remove(first_word(selector));
        }
        if facts.is_empty() {
            self.counts.remove(selector.kind());
        }
    }

    /// Whether any entry asks for this fact of this attestor: `asks("unix", "sha256")`.
    pub fn asks(&self, attestor: &str, fact: &str) -> bool {
        self.everything || self.counts.get(attestor).is_some_and(|facts| facts.contains_key(fact))
    }

    /// Whether it asks for all that `other` asks for. A process that was attested for `self` need not
    /// be attested again for `other`.
    pub fn covers(&self, other: &Self) -> bool {
        self.everything
            || !other.everything
                && other.counts.iter().all(|(kind, facts)| facts.keys().all(|fact| self.asks(kind, fact)))
    }
}

impl<'a> FromIterator<&'a Selector> for Wanted {
    fn from_iter<T: IntoIterator<Item = &'a Selector>>(selectors: T) -> Self {
        let mut wanted = Self::default();
        selectors.into_iter().for_each(|selector| wanted.add(selector));
        wanted
    }
}

fn first_word(selector: &Selector) -> &str {
    selector.value().split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        text.parse().expect("a selector")
    }

    #[test]
    fn a_fact_is_wanted_from_the_first_entry_that_asks_until_the_last_one_goes() {
        let (one, two) = (selector("unix:path:/bin/a"), selector("unix:path:/bin/b"));
        let mut wanted = Wanted::default();
        assert!(!wanted.asks("unix", "path"));
        wanted.add(&one);
        wanted.add(&two);
        wanted.remove(&one);
        assert!(wanted.asks("unix", "path") && !wanted.asks("unix", "sha256") && !wanted.asks("k8s", "path"));
        wanted.remove(&two);
        assert!(!wanted.asks("unix", "path"));
        wanted.remove(&two);
        assert!(!wanted.asks("unix", "path"));
    }

    #[test]
    fn what_was_attested_for_more_serves_for_less() {
        let uid: Wanted = [&selector("unix:uid:1")].into_iter().collect();
        let both: Wanted = [&selector("unix:uid:2"), &selector("unix:path:/a:b")].into_iter().collect();
        assert!(both.covers(&uid) && !uid.covers(&both));
        assert!(Wanted::everything().covers(&both) && !both.covers(&Wanted::everything()));
        assert!(Wanted::everything().asks("any", "thing"));
    }
}
