//! What selectors there are, one file for each kind, and what to tell whoever writes an entry about its
//! own. Pure, so that the server can say it too.
//!
//! A selector that no attestor could ever give is a [`Mistake`], and the entry is refused. A [`Warning`]
//! forbids nothing.

mod binary;
mod cgroup;
mod docker;
mod k8s;
mod launch;
mod nearest;
mod nodes;
mod process;
mod spire;
mod systemd;
#[cfg(test)]
mod tests;
mod unix;
mod values;
mod warnings;

use spiffe::Selector;

pub use self::warnings::{Warning, warnings};
use self::{nearest::nearest, values::Checked};

/// Every kind: those that this agent's attestors give come first.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    PROCESSES.iter().chain(nodes::KINDS)
}

const PROCESSES: &[Kind] = &[
    unix::KIND,
    systemd::KIND,
    docker::KIND,
    k8s::KIND,
    launch::KIND,
    cgroup::KIND,
    process::KIND,
    binary::KIND,
    spire::SLURM,
    spire::WINDOWS,
];

/// The selectors of one attestor.
#[derive(Debug)]
pub struct Kind {
    /// The attestor, as in `unix:uid:1000`.
    pub name: &'static str,
    /// Of what they are facts.
    pub about: About,
    /// What comes next, as `uid`.
    pub names: &'static [Name],
    /// What other systems call some of these names.
    aliases: &'static [(&'static str, &'static str)],
}

/// Of what selectors are facts, and so in which entries they can stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum About {
    /// Entries for processes.
    Processes,
    /// Aliases of nodes.
    Nodes,
}

/// The first word of a selector's value.
#[derive(Debug)]
pub struct Name {
    /// As in `uid`; empty if the value is one whole.
    pub name: &'static str,
    /// Whether only SPIRE's agents give it.
    pub elsewhere: bool,
    is_single: bool,
    is_weak: bool,
    check: fn(&str) -> Checked,
}

/// A selector that nothing ever has, in a sentence that says what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(String);

/// The words that entries on this server may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vocabulary<'a> {
    /// Kinds that attestors from elsewhere give, beyond those that are known here.
    pub others: &'a [String],
}

impl Vocabulary<'_> {
    /// Whether something can have this selector.
    pub fn check(&self, selector: &Selector, about: About) -> Result<(), Mistake> {
        if self.others.iter().any(|other| other == selector.kind()) {
            return Ok(());
        }
        let Some(kind) = kind(selector) else { return Err(unknown_kind(selector, about)) };
        if kind.about != about {
            return Err(Mistake(match about {
                About::Processes => format!(
                    "{selector} is a fact about nodes, and no process has it; make it the entry's parent"
                ),
                About::Nodes => format!("{selector} is a fact about processes, and no node has it"),
            }));
        }
        let Some(name) = kind.named(selector) else { return Err(unknown_name(kind, selector)) };
        (name.check)(name.value(selector))
            .map_err(|because| Mistake(format!("nothing has {selector}: {because}")))
    }
}

/// Whether a process that wants to can have this fact without deserving it.
pub fn is_weak(selector: &Selector) -> bool {
    kind(selector).and_then(|kind| kind.named(selector)).is_some_and(|name| name.is_weak)
}

fn kind(selector: &Selector) -> Option<&'static Kind> {
    kinds().find(|kind| kind.name == selector.kind())
}

fn unknown_kind(selector: &Selector, about: About) -> Mistake {
    let known = || kinds().filter(|kind| kind.about == about);
    let meant = nearest(selector.kind(), known().map(|kind| kind.name));
    let meant = meant.map(|kind| format!("{kind}:{}", selector.value()));
    // `uid:1000`, where the kind was forgotten.
    let of = known().find(|kind| kind.names.iter().any(|name| name.name == selector.kind()));
    let meant = meant.or_else(|| of.map(|kind| format!("{}:{selector}", kind.name)));
    Mistake(match meant {
        Some(meant) => format!("no attestor gives selectors such as {selector}; did you mean {meant}?"),
        None => format!(
            "no attestor gives selectors such as {selector}; if one from elsewhere does, name its kind {:?} in \
             other_selector_kinds of the server's configuration",
            selector.kind()
        ),
    })
}

fn unknown_name(kind: &Kind, selector: &Selector) -> Mistake {
    let (name, value) = split(selector);
    let other = kind.aliases.iter().find(|(alias, _)| *alias == name).map(|(_, name)| *name);
    let other = other.or_else(|| nearest(name, kind.names.iter().map(|name| name.name)));
    Mistake(match other {
        Some(other) => format!(
            "the {0} attestor gives no selectors such as {selector}; did you mean {0}:{other}:{value}?",
            kind.name
        ),
        None if kind.names.is_empty() => format!("the {} attestor gives no selectors", kind.name),
        None => {
            let names: Vec<&str> = kind.names.iter().map(|name| name.name).collect();
            format!(
                "the {} attestor gives no selectors such as {selector}; it gives {}",
                kind.name,
                names.join(", ")
            )
        }
    })
}

/// `uid:1000` is `uid` and `1000`; a path may hold colons of its own.
fn split(selector: &Selector) -> (&str, &str) {
    selector.value().split_once(':').unwrap_or((selector.value(), ""))
}

impl Kind {
    const fn processes(name: &'static str, names: &'static [Name]) -> Self {
        Self { name, about: About::Processes, names, aliases: &[] }
    }

    const fn nodes(name: &'static str, names: &'static [Name]) -> Self {
        Self { name, about: About::Nodes, names, aliases: &[] }
    }

    const fn also_called(self, aliases: &'static [(&'static str, &'static str)]) -> Self {
        Self { aliases, ..self }
    }

    /// What is known of the name in this selector, which is of this kind.
    fn named(&self, selector: &Selector) -> Option<&Name> {
        let (word, _) = split(selector);
        self.names.iter().find(|name| name.name == word || name.name.is_empty())
    }
}

impl Name {
    /// Of which a process or node has one value.
    const fn once(name: &'static str, check: fn(&str) -> Checked) -> Self {
        Self { name, elsewhere: false, is_single: true, is_weak: false, check }
    }

    /// Of which it may have several.
    const fn many(name: &'static str, check: fn(&str) -> Checked) -> Self {
        Self { is_single: false, ..Self::once(name, check) }
    }

    /// All of a value that has no name in it.
    const fn whole(check: fn(&str) -> Checked) -> Self {
        Self::once("", check)
    }

    /// A process can pretend it.
    const fn weak(self) -> Self {
        Self { is_weak: true, ..self }
    }

    /// SPIRE's agents give it, and Writ's do not.
    const fn elsewhere(self) -> Self {
        Self { elsewhere: true, ..self }
    }

    /// The value in a selector of this name.
    fn value<'a>(&self, selector: &'a Selector) -> &'a str {
        if self.name.is_empty() { selector.value() } else { split(selector).1 }
    }
}
