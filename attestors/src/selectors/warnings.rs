//! What the author of an entry should know about its selectors, though they may stand.

use std::fmt;

use spiffe::Selector;

use super::{is_weak, kind, split};

/// Something about an entry's selectors that its author should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Warning {
    /// All that tells its processes apart is what a process can pretend.
    OnlyWeak,
    /// The program runs whatever script it is given.
    Interpreter {
        /// The selector that names it.
        selector: Selector,
    },
    /// Only agents of SPIRE give it.
    Elsewhere {
        /// The selector.
        selector: Selector,
    },
    /// A process has one value of this name, and these are two.
    Contradiction {
        /// The one.
        one: Selector,
        /// The other.
        other: Selector,
    },
}

/// What there is to say about an entry that is meant for processes and has these selectors.
pub fn warnings(selectors: &[Selector]) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = selectors.iter().filter_map(about).collect();
    warnings
        .extend(selectors.iter().enumerate().filter_map(|(n, one)| contradiction(one, &selectors[n + 1..])));
    if !selectors.is_empty() && selectors.iter().all(is_weak) {
        warnings.push(Warning::OnlyWeak);
    }
    warnings
}

fn about(selector: &Selector) -> Option<Warning> {
    let name = kind(selector)?.named(selector)?;
    if name.elsewhere {
        return Some(Warning::Elsewhere { selector: selector.clone() });
    }
    let is_program = selector.kind() == "unix" && name.name == "path";
    (is_program && is_interpreter(name.value(selector)))
        .then(|| Warning::Interpreter { selector: selector.clone() })
}

/// The first of `others` that no process has together with `one`.
fn contradiction(one: &Selector, others: &[Selector]) -> Option<Warning> {
    let is_single = kind(one)?.named(one)?.is_single;
    let same =
        |other: &&Selector| other.kind() == one.kind() && split(other).0 == split(one).0 && *other != one;
    let other = others.iter().filter(|_| is_single).find(same)?;
    Some(Warning::Contradiction { one: one.clone(), other: other.clone() })
}

/// Whether the file name is that of a known interpreter, with or without a version behind it.
fn is_interpreter(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let bare = file.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&bare)
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyWeak => f.write_str(
                "nothing tells its processes apart but what a process can pretend, such as path or sha256: where \
                 an agent did not see the program executed (`writ status` says whether it does) a process can \
                 show another executable than it runs, and whoever may run the program can connect, keep the \
                 connection and run it afterwards; add unix:uid or another selector that the process cannot \
                 choose",
            ),
            Self::Interpreter { selector } => write!(
                f,
                "{selector} is an interpreter: every script that it runs has this selector and its \
                 sha256; give the workload a uid of its own and add unix:uid"
            ),
            Self::Elsewhere { selector } => {
                write!(f, "no process of a writ agent has {selector}: only SPIRE's agents give it")
            }
            Self::Contradiction { one, other } => {
                write!(
                    f,
                    "no process has both {one} and {other}, and all selectors of an entry must hold; "
                )?;
                f.write_str("make an entry for each")
            }
        }
    }
}

const INTERPRETERS: &[&str] = &[
    "bash", "bun", "busybox", "dash", "deno", "dotnet", "java", "ksh", "lua", "luajit", "node", "nodejs",
    "perl", "php", "pypy", "python", "ruby", "sh", "tclsh", "uv", "zsh",
];
