//! Selectors, and questions about sets of them.

use std::collections::BTreeSet;

use proto::spire::types::{FederatesWithMatch, Selector as WireSelector, SelectorMatch};
use spiffe::{Selector, TrustDomain};

use super::{WireError, id};

/// How a set that is asked about and a set that is found must stand to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Match {
    /// They are the same.
    Exact,
    /// All found are among those asked about.
    Subset,
    /// All asked about are among those found.
    Superset,
    /// At least one is in both.
    Any,
}

impl Match {
    /// Whether the set `found` answers to the set `asked`.
    pub fn holds<T: Ord>(self, asked: &BTreeSet<T>, found: &BTreeSet<T>) -> bool {
        match self {
            Self::Exact => found == asked,
            Self::Subset => found.is_subset(asked),
            Self::Superset => found.is_superset(asked),
            Self::Any => !found.is_disjoint(asked),
        }
    }

    /// Both questions of SPIRE's API number their behaviours alike.
    fn from_wire(number: i32) -> Result<Self, WireError> {
        match number {
            0 => Ok(Self::Exact),
            1 => Ok(Self::Subset),
            2 => Ok(Self::Superset),
            3 => Ok(Self::Any),
            other => Err(WireError::field("match", format_args!("{other} is no match behaviour"))),
        }
    }
}

/// The selectors in field `name`.
pub fn from_wire(name: &str, selectors: Vec<WireSelector>) -> Result<BTreeSet<Selector>, WireError> {
    let read = |s: WireSelector| Selector::new(&s.r#type, &s.value).map_err(|e| WireError::field(name, e));
    selectors.into_iter().map(read).collect()
}

/// The selectors in their two parts.
pub fn to_wire(selectors: &BTreeSet<Selector>) -> Vec<WireSelector> {
    selectors
        .iter()
        .map(|s| WireSelector { r#type: s.kind().to_owned(), value: s.value().to_owned() })
        .collect()
}

/// A question about selectors; an empty set asks nothing that could be answered.
pub fn question(asked: SelectorMatch) -> Result<(BTreeSet<Selector>, Match), WireError> {
    let behaviour = Match::from_wire(asked.r#match)?;
    let selectors = from_wire("by_selectors", asked.selectors)?;
    if selectors.is_empty() {
        return Err(WireError::field("by_selectors", "it names no selector"));
    }
    Ok((selectors, behaviour))
}

/// A question about trust domains.
pub fn federation_question(asked: FederatesWithMatch) -> Result<(BTreeSet<TrustDomain>, Match), WireError> {
    let behaviour = Match::from_wire(asked.r#match)?;
    let names = asked.trust_domains.iter().map(|name| id::trust_domain("by_federates_with", name));
    let trust_domains = names.collect::<Result<BTreeSet<_>, _>>()?;
    if trust_domains.is_empty() {
        return Err(WireError::field("by_federates_with", "it names no trust domain"));
    }
    Ok((trust_domains, behaviour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_found_answers_by_the_behaviour_asked_for() {
        let set = |text: &str| text.chars().collect::<BTreeSet<char>>();
        for (behaviour, found, holds) in [
            (Match::Exact, "ab", true),
            (Match::Exact, "a", false),
            (Match::Subset, "a", true),
            (Match::Subset, "abc", false),
            (Match::Superset, "abc", true),
            (Match::Superset, "a", false),
            (Match::Any, "bz", true),
            (Match::Any, "z", false),
        ] {
            assert_eq!(behaviour.holds(&set("ab"), &set(found)), holds, "{behaviour:?} {found}");
        }
    }

    #[test]
    fn a_question_about_nothing_or_by_an_unknown_behaviour_is_refused() {
        assert!(question(SelectorMatch { selectors: vec![], r#match: 0 }).is_err());
        let one = WireSelector { r#type: "unix".to_owned(), value: "uid:1".to_owned() };
        assert!(question(SelectorMatch { selectors: vec![one.clone()], r#match: 9 }).is_err());
        assert!(question(SelectorMatch { selectors: vec![one], r#match: 2 }).is_ok());
    }
}
