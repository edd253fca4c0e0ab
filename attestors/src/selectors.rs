//! What to tell whoever writes an entry about its selectors. Pure, so that the server can say it too.
//!
//! A warning never forbids anything: an entry may be meant for another kind of agent, or for later.

use std::fmt;

use spiffe::Selector;

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
    /// No attestor makes selectors of this kind.
    UnknownKind {
        /// The selector.
        selector: Selector,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// The attestor makes no selectors of this name.
    UnknownName {
        /// The selector.
        selector: Selector,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A process has one value of this name, and these are two.
    Contradiction {
        /// The one.
        one: Selector,
        /// The other.
        other: Selector,
    },
    /// The attestor never gives such a value.
    NeverMatches {
        /// The selector.
        selector: Selector,
        /// What the value has to look like.
        because: &'static str,
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

/// Why a selector cannot be meant by anybody: its number is none that a kernel gives.
pub fn impossible(selector: &Selector) -> Option<String> {
    let (name, number) = split(selector);
    let is_id = selector.kind() == "unix" && matches!(name, "uid" | "gid" | "supplementary_gid");
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let is_given = number.parse::<u32>().is_ok_and(|id| id <= LARGEST_ID);
    (is_id && is_number && !is_given)
        .then(|| format!("{selector} is out of range: a {name} is a number from 0 to {LARGEST_ID}"))
}

/// (uid_t) -1 means "no change" to the kernel.
const LARGEST_ID: u32 = u32::MAX - 1;

/// Whether a process that wants to can have this fact without deserving it.
pub fn is_weak(selector: &Selector) -> bool {
    selector.kind() == "unix" && matches!(split(selector).0, "path" | "sha256")
}

/// The facts that each attestor gives, and nothing else is ever given.
pub const KNOWN: &[(&str, &[&str])] = &[
    ("unix", &["uid", "user", "gid", "group", "supplementary_gid", "supplementary_group", "path", "sha256"]),
    ("docker", &["label", "env", "image_id", "image_config_digest"]),
    ("k8s", crate::workload::k8s::FACTS),
    ("systemd", &["id", "fragment_path"]),
];

fn about(selector: &Selector) -> Option<Warning> {
    let (name, value) = split(selector);
    let Some((_, names)) = KNOWN.iter().find(|(kind, _)| *kind == selector.kind()) else {
        let kind = nearest(selector.kind(), KNOWN.iter().map(|(kind, _)| *kind));
        let meant = kind.map(|kind| format!("{kind}:{}", selector.value()));
        // `uid:1000`, where the kind was forgotten.
        let of = KNOWN.iter().find(|(_, names)| names.contains(&selector.kind()));
        let meant = meant.or_else(|| of.map(|(kind, _)| format!("{kind}:{selector}")));
        return Some(Warning::UnknownKind { selector: selector.clone(), meant });
    };
    if !names.contains(&name) {
        let other = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, name)| *name);
        let other = other.or_else(|| nearest(name, names.iter().copied()));
        let meant = other.map(|other| format!("{}:{other}:{value}", selector.kind()));
        return Some(Warning::UnknownName { selector: selector.clone(), meant });
    }
    if selector.kind() != "unix" {
        return None;
    }
    if let Some(because) = never_matches(name, value) {
        return Some(Warning::NeverMatches { selector: selector.clone(), because });
    }
    (name == "path" && is_interpreter(value)).then(|| Warning::Interpreter { selector: selector.clone() })
}

/// The first of `others` that no process has together with `one`.
fn contradiction(one: &Selector, others: &[Selector]) -> Option<Warning> {
    let (name, _) = split(one);
    let is_single = one.kind() == "unix" && !name.starts_with("supplementary_");
    let mut others = others.iter().filter(|_| is_single);
    let other = others.find(|other| other.kind() == one.kind() && split(other).0 == name && *other != one)?;
    Some(Warning::Contradiction { one: one.clone(), other: other.clone() })
}

/// `uid:1000` is `uid` and `1000`; a path may hold colons of its own.
fn split(selector: &Selector) -> (&str, &str) {
    selector.value().split_once(':').unwrap_or((selector.value(), ""))
}

fn never_matches(name: &str, value: &str) -> Option<&'static str> {
    let is_number = value.parse::<u32>().is_ok_and(|number| number.to_string() == value);
    let is_hash = value.len() == 64 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match name {
        "uid" if !is_number => Some("a uid is a number; for a name write unix:user:NAME"),
        "gid" if !is_number => Some("a gid is a number; for a name write unix:group:NAME"),
        "supplementary_gid" if !is_number => {
            Some("a gid is a number; for a name write unix:supplementary_group:NAME")
        }
        "user" | "group" | "supplementary_group" if value.is_empty() => Some("the name is missing"),
        "path" if !value.starts_with('/') => Some("the path has to be absolute"),
        "path" if value.ends_with(" (deleted)") => Some("a deleted file gives no path"),
        "sha256" if !is_hash => Some("the hash has to be 64 digits of lower-case hexadecimal"),
        _ => None,
    }
}

/// Whether the file name is that of a known interpreter, with or without a version behind it.
fn is_interpreter(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let bare = file.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&bare)
}

/// The one of `known` that differs in the fewest letters, if that is few.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let few = |known: &str| known.len() / 3;
    // All of them are written in lower case.
    let word = word.to_ascii_lowercase();
    known
        .map(|known| (distance(&word, known), known))
        .filter(|(n, known)| *n <= few(known))
        .min()
        .map(|(_, k)| k)
}

/// How many letters must be put, removed or replaced to make the one from the other. Words of any length
/// can come in, so long ones are simply far.
fn distance(one: &str, other: &str) -> usize {
    if one.len() > 32 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_meant = |meant: &Option<String>| match meant {
            Some(meant) => format!("; did you mean {meant}?"),
            None => String::new(),
        };
        match self {
            Self::OnlyWeak => f.write_str(
                "nothing but path or sha256 tells its processes apart, and the kernel cannot vouch for \
                 either: where an agent did not see the program executed (`writ status` says whether it \
                 does) a process can show another executable than it runs, and whoever may run the program \
                 can connect, keep the connection and run it afterwards; add unix:uid or another selector \
                 that the process cannot choose",
            ),
            Self::Interpreter { selector } => write!(
                f,
                "{selector} is an interpreter: every script that it runs has this selector and its \
                 sha256; give the workload a uid of its own and add unix:uid"
            ),
            Self::UnknownKind { selector, meant } => write!(
                f,
                "no attestor here gives selectors such as {selector}, so no process of a writ agent \
                 matches{}",
                or_meant(meant)
            ),
            Self::UnknownName { selector, meant } => write!(
                f,
                "the {} attestor gives no selectors such as {selector}, so no process matches{}",
                selector.kind(),
                or_meant(meant)
            ),
            Self::Contradiction { one, other } => {
                write!(
                    f,
                    "no process has both {one} and {other}, and all selectors of an entry must hold; "
                )?;
                f.write_str("make an entry for each")
            }
            Self::NeverMatches { selector, because } => {
                write!(f, "no process has {selector}: {because}")
            }
        }
    }
}

/// What other systems call it.
const ALIASES: &[(&str, &str)] = &[
    ("username", "user"),
    ("user_name", "user"),
    ("login", "user"),
    ("euid", "uid"),
    ("user_id", "uid"),
    ("groupname", "group"),
    ("group_name", "group"),
    ("egid", "gid"),
    ("group_id", "gid"),
    ("groups", "supplementary_group"),
    ("exe", "path"),
    ("binary", "path"),
    ("sha", "sha256"),
    ("hash", "sha256"),
    ("sha256sum", "sha256"),
];

const INTERPRETERS: &[&str] = &[
    "bash", "bun", "busybox", "dash", "deno", "dotnet", "java", "ksh", "lua", "luajit", "node", "nodejs",
    "perl", "php", "pypy", "python", "ruby", "sh", "tclsh", "uv", "zsh",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Vec<String> {
        let selectors: Vec<Selector> = texts.iter().map(|text| text.parse().expect("a selector")).collect();
        warnings(&selectors).iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn warns(texts: &[&str], part: &str) {
        let warnings = of(texts);
        assert!(warnings.iter().any(|warning| warning.contains(part)), "{part:?} is not in {warnings:?}");
    }

    #[test]
    fn path_and_hash_alone_are_weak_and_beside_a_uid_they_are_not() {
        let hash = format!("unix:sha256:{}", "a".repeat(64));
        warns(&["unix:path:/opt/triage"], "the kernel cannot vouch");
        warns(&["unix:path:/opt/triage", &hash], "the kernel cannot vouch");
        assert_eq!(of(&["unix:path:/opt/triage", &hash, "unix:uid:1000"]), [""; 0]);
        assert_eq!(of(&["unix:user:triage"]), [""; 0]);
        assert_eq!(of(&[]), [""; 0]);
    }

    #[test]
    fn an_interpreter_is_named() {
        for path in ["/usr/bin/python3.11", "/usr/bin/python3", "/bin/bash", "/usr/local/bin/node"] {
            warns(&[&format!("unix:path:{path}"), "unix:uid:1"], "is an interpreter");
        }
        assert_eq!(of(&["unix:path:/opt/nodes", "unix:uid:1"]), [""; 0]);
    }

    #[test]
    fn a_near_miss_is_answered_with_what_was_meant() {
        warns(&["unix:username:triage"], "did you mean unix:user:triage?");
        warns(&["unix:usr:triage"], "did you mean unix:user:triage?");
        warns(&["unix:suplementary_gid:4"], "did you mean unix:supplementary_gid:4?");
        warns(&["unx:uid:4"], "did you mean unix:uid:4?");
        warns(&["Unix:uid:4"], "did you mean unix:uid:4?");
        warns(&["unix:hash:ab"], "did you mean unix:sha256:ab?");
    }

    #[test]
    fn a_name_in_capitals_and_a_forgotten_kind_are_near_misses() {
        warns(&["unix:UID:0"], "did you mean unix:uid:0?");
        warns(&["UNIX:uid:0"], "did you mean unix:uid:0?");
        warns(&["uid:4"], "did you mean unix:uid:4?");
    }

    #[test]
    fn two_values_of_what_a_process_has_once_contradict_each_other() {
        warns(&["unix:uid:5", "unix:gid:5", "unix:uid:6"], "no process has both unix:uid:5 and unix:uid:6");
        warns(&["unix:user:a", "unix:user:b"], "make an entry for each");
        assert_eq!(of(&["unix:supplementary_gid:5", "unix:supplementary_gid:6"]), [""; 0]);
        assert_eq!(of(&["unix:uid:5", "unix:gid:6"]), [""; 0]);
    }

    #[test]
    fn a_number_beyond_all_ids_is_impossible() {
        let says = |text: &str| impossible(&text.parse().expect("a selector"));
        for text in
            ["unix:uid:4294967295", "unix:gid:99999999999", "unix:uid:-1", "unix:supplementary_gid:-7"]
        {
            assert!(says(text).is_some_and(|why| why.contains("out of range")), "{text}");
        }
        for text in ["unix:uid:4294967294", "unix:uid:root", "unix:path:/99999999999", "k8s:uid:-1"] {
            assert_eq!(says(text), None);
        }
    }

    #[test]
    fn what_resembles_nothing_is_not_guessed_at() {
        let warnings = of(&["nomad:job:planner", "unix:colour:blue"]);
        assert_eq!(warnings.len(), 2);
        assert!(warnings.iter().all(|warning| !warning.contains("did you mean")), "{warnings:?}");
    }

    #[test]
    fn a_value_that_no_process_has_is_told() {
        warns(&["unix:uid:root"], "unix:user:NAME");
        warns(&["unix:uid:007"], "a uid is a number");
        warns(&["unix:uid:4294967296"], "a uid is a number");
        warns(&["unix:gid:-1"], "a gid is a number");
        warns(&["unix:path:bin/x", "unix:uid:1"], "has to be absolute");
        warns(&["unix:path:/x (deleted)", "unix:uid:1"], "a deleted file");
        warns(&[&format!("unix:sha256:{}", "A".repeat(64)), "unix:uid:1"], "lower-case");
        warns(&["unix:user"], "the name is missing");
    }

    #[test]
    fn a_selector_of_any_length_is_answered() {
        warns(&[&format!("unix:{}:x", "u".repeat(4000))], "gives no selectors such as");
        warns(&[&format!("{}:x", "ü".repeat(1000))], "no attestor here gives");
    }
}
