//! What an attestor found: facts, and notes on what it could not say.

use std::fmt;

use serde::Serialize;
use spiffe::Selector;

/// One fact about a process.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Fact {
    /// The fact, in the form that entries use.
    pub selector: Selector,
    /// Where it comes from, for people to read.
    pub source: &'static str,
    /// How much it proves.
    pub strength: Strength,
}

/// How much a fact proves about a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// The kernel keeps it, and the process could not choose it (or it is this host's name for such a
    /// number).
    Kernel,
    /// A container engine, the kubelet or systemd told the agent, of a process that the kernel told apart.
    Platform,
    /// The agent measured it itself before the process could run.
    Measured,
    /// True of an honest process; one that wants to may pretend it (see `selectors::warnings`).
    Weak,
}

/// Everything that attestors found about one process.
///
/// Facts only ever add up: an entry matches when all of its selectors are among them. So whatever could
/// not be found out only takes away, and needs no error of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Evidence {
    /// What is known.
    pub facts: Vec<Fact>,
    /// Why something is not known, in sentences for an administrator; never for the process itself.
    pub notes: Vec<String>,
    /// Whether something could not be read just now though it may be there (a name service or a disk did
    /// not answer). Asking again may find more.
    pub incomplete: bool,
    /// Whether it can change while the process stays what it is, which is then told ([`crate::News`]).
    #[serde(skip)]
    pub passing: bool,
    /// Why the attestor could do nothing at all, if what it depends on (an engine, a kubelet) failed it.
    #[serde(skip)]
    pub failure: Option<String>,
}

impl Evidence {
    /// Adds a fact. A value that makes no selector (a path with a line feed in it) becomes a note.
    pub fn add(&mut self, kind: &str, value: &str, source: &'static str, strength: Strength) {
        match Selector::new(kind, value) {
            Ok(selector) => self.facts.push(Fact { selector, source, strength }),
            Err(error) => self.note(error.to_string()),
        }
    }

    /// Notes what is not known, for good.
    pub fn note(&mut self, sentence: impl Into<String>) {
        self.notes.push(sentence.into());
    }

    /// Notes what is not known at the moment.
    pub fn note_for_now(&mut self, sentence: impl Into<String>) {
        self.notes.push(sentence.into());
        self.incomplete = true;
    }

    /// Notes that what the attestor depends on failed it, which is its operator's business as well.
    pub fn fail(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        self.failure.get_or_insert_with(|| sentence.clone());
        self.note_for_now(sentence);
    }

    /// The facts alone.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.facts.iter().map(|fact| &fact.selector)
    }

    /// Adds what another attestor found.
    pub fn extend(&mut self, other: Self) {
        self.facts.extend(other.facts);
        // Several may say why a cgroup proves nothing.
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.incomplete |= other.incomplete;
        self.passing |= other.passing;
        self.failure = self.failure.take().or(other.failure);
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Platform => "platform",
            Self::Measured => "measured",
            Self::Weak => "weak",
        })
    }
}
