//! Whether what was seen is what was expected. Pure.

use std::{collections::BTreeSet, fmt};

use serde::Deserialize;
use spiffe::{Selector, SpiffeId};

use super::file::{Expect, Named, Pattern};

/// What is known of a process, and what it gets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) facts: Vec<Fact>,
    /// Why something is not known.
    pub(crate) notes: Vec<String>,
    pub(crate) matches: Vec<Rule>,
    pub(crate) almost: Vec<Almost>,
}

/// One fact, as `writ explain` prints it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Fact {
    pub(crate) selector: Selector,
    #[serde(default)]
    pub(crate) strength: String,
}

/// An entry, as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) selectors: BTreeSet<Selector>,
}

/// An entry that does not match, and what the process lacks for it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Almost {
    pub(crate) entry: Rule,
    pub(crate) missing: Vec<Selector>,
}

/// One way in which it is not as expected.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It lacks a selector.
    Lacks { pattern: Pattern, has: Vec<Selector> },
    /// It has one that it must not have.
    Has { selector: Selector },
    /// It has one that anybody could pretend.
    Weak { selector: Selector },
    /// It gets no such identity.
    NotGiven { id: Named, near: Vec<Near> },
    /// It gets another identity.
    Given { id: SpiffeId, entry: String, selectors: BTreeSet<Selector> },
}

/// An entry for the identity, with each selector that the process lacks and what it has instead.
#[derive(Debug)]
pub(crate) struct Near {
    entry: String,
    missing: Vec<(Selector, Vec<Selector>)>,
}

/// How what was seen differs from what was expected.
pub(crate) fn judge(expect: &Expect, seen: &Seen) -> Vec<Failure> {
    let mut failures = Vec::new();
    for pattern in &expect.selectors {
        if !seen.facts.iter().any(|fact| pattern.is(&fact.selector)) {
            failures.push(lacks(pattern, seen));
        }
    }
    for pattern in &expect.strong {
        let mut meant = seen.facts.iter().filter(|fact| pattern.is(&fact.selector)).peekable();
        match meant.peek().map(|fact| fact.selector.clone()) {
            None => failures.push(lacks(pattern, seen)),
            Some(selector) if meant.all(|fact| fact.strength == WEAK) => {
                failures.push(Failure::Weak { selector });
            }
            Some(_) => {}
        }
    }
    for pattern in &expect.absent {
        let present = seen.facts.iter().filter(|fact| pattern.is(&fact.selector));
        failures.extend(present.map(|fact| Failure::Has { selector: fact.selector.clone() }));
    }
    if let Some(ids) = &expect.ids {
        let is_given = |id: &&Named| seen.matches.iter().any(|rule| id.is(&rule.spiffe_id));
        failures.extend(ids.iter().filter(|id| !is_given(id)).map(|id| not_given(id, seen)));
        let unexpected = seen.matches.iter().filter(|rule| !ids.iter().any(|id| id.is(&rule.spiffe_id)));
        failures.extend(
            unexpected.cloned().map(|Rule { id: entry, spiffe_id: id, selectors }| Failure::Given {
                id,
                entry,
                selectors,
            }),
        );
    }
    failures
}

const WEAK: &str = "weak";

fn lacks(pattern: &Pattern, seen: &Seen) -> Failure {
    let (kind, name) = pattern.subject();
    Failure::Lacks { pattern: pattern.clone(), has: alike(kind, name, seen) }
}

fn not_given(id: &Named, seen: &Seen) -> Failure {
    let near = seen.almost.iter().filter(|almost| id.is(&almost.entry.spiffe_id)).map(|almost| {
        let instead = |selector: &Selector| {
            let name = selector.value().split(':').next().unwrap_or_default();
            (selector.clone(), alike(selector.kind(), name, seen))
        };
        Near { entry: almost.entry.id.clone(), missing: almost.missing.iter().map(instead).collect() }
    });
    Failure::NotGiven { id: id.clone(), near: near.collect() }
}

/// What it has of the same kind: another uid, another path.
fn alike(kind: &str, name: &str, seen: &Seen) -> Vec<Selector> {
    let selectors = seen.facts.iter().map(|fact| &fact.selector);
    let alike = selectors
        .filter(|selector| selector.kind() == kind && selector.value().split(':').next() == Some(name));
    alike.take(FEW).cloned().collect()
}

const FEW: usize = 5;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks { pattern, has } => {
                write!(f, "it lacks {}{}", pattern.as_str(), Instead(has))
            }
            Self::Has { selector } => write!(f, "it has {selector}, which is expected to be absent"),
            Self::Weak { selector } => write!(
                f,
                "it has {selector}, but weak: a process could pretend it; see its source in `writ explain`"
            ),
            Self::NotGiven { id, near } if near.is_empty() => {
                write!(f, "it does not get {id}: no entry for it almost matches")
            }
            Self::NotGiven { id, near } => {
                write!(f, "it does not get {id}")?;
                near.iter().try_for_each(|Near { entry, missing }| {
                    missing.iter().try_for_each(|(selector, has)| {
                        write!(f, "; entry {entry} asks for {selector}{}", Instead(has))
                    })
                })
            }
            Self::Given { id, entry, selectors } => {
                let asks: Vec<_> = selectors.iter().map(Selector::as_str).collect();
                write!(f, "it gets {id}: entry {entry} asks only for {}", asks.join(", "))
            }
        }
    }
}

/// What there is instead of a selector that is lacking.
struct Instead<'a>(&'a [Selector]);

impl fmt::Display for Instead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has: Vec<_> = self.0.iter().map(Selector::as_str).collect();
        if has.is_empty() { Ok(()) } else { write!(f, ", and it has {}", has.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(facts: &[&str]) -> Seen {
        let fact = |text: &&str| Fact { selector: text.parse().unwrap(), strength: "kernel".to_owned() };
        Seen { facts: facts.iter().map(fact).collect(), ..Seen::default() }
    }

    fn rule(id: &str, selectors: &[&str]) -> Rule {
        let selectors = selectors.iter().map(|text| text.parse().unwrap()).collect();
        Rule {
            id: format!("entry-of{}", id.replace('/', "-")),
            spiffe_id: format!("spiffe://td{id}").parse().unwrap(),
            selectors,
        }
    }

    fn says(expect: &str, seen: &Seen) -> Vec<String> {
        let expect: Expect = serde_norway::from_str(expect).unwrap();
        judge(&expect, seen).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_selector_that_is_lacking_is_told_beside_what_is_there_instead() {
        let seen = seen(&["unix:uid:0", "unix:gid:0"]);
        assert_eq!(says("{selectors: [unix:uid:0]}", &seen), [""; 0]);
        assert_eq!(says("{selectors: [unix:uid:7]}", &seen), ["it lacks unix:uid:7, and it has unix:uid:0"]);
        assert_eq!(says("{selectors: ['unix:path:*']}", &seen), ["it lacks unix:path:*"]);
        assert_eq!(says("{absent: [unix:uid:0]}", &seen).len(), 1);
        assert_eq!(says("{absent: ['unix:path:*']}", &seen), [""; 0]);
    }

    #[test]
    fn a_weak_selector_is_not_a_strong_one() {
        let mut seen = seen(&["unix:path:/bin/a"]);
        assert_eq!(says("{strong: [unix:path:/bin/a]}", &seen), [""; 0]);
        seen.facts[0].strength = "weak".to_owned();
        assert!(says("{strong: [unix:path:/bin/a]}", &seen)[0].contains("but weak"));
        assert!(says("{strong: [unix:uid:1]}", &seen)[0].contains("lacks unix:uid:1"));
    }

    #[test]
    fn identities_are_exactly_those_that_are_expected() {
        let mut seen = seen(&["unix:uid:0"]);
        seen.matches.push(rule("/root", &["unix:uid:0"]));
        assert_eq!(says("{ids: [/root]}", &seen), [""; 0]);
        assert_eq!(says("{ids: ['spiffe://td/root']}", &seen), [""; 0]);
        let unexpected = ["it gets spiffe://td/root: entry entry-of-root asks only for unix:uid:0"];
        assert_eq!(says("{ids: []}", &seen), unexpected);
        seen.almost.push(Almost {
            entry: rule("/web", &["unix:uid:7"]),
            missing: vec!["unix:uid:7".parse().unwrap()],
        });
        let near = "it does not get /web; entry entry-of-web asks for unix:uid:7, and it has unix:uid:0";
        assert_eq!(says("{ids: [/root, /web]}", &seen), [near]);
        assert!(says("{ids: [/root, /none]}", &seen)[0].contains("no entry for it almost matches"));
    }
}
