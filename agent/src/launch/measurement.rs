//! [`Measurement`]: what was measured, as one digest, as selectors, and for people. Pure.
//!
//! The digest is SHA-256 over the parts in their order: the word `writ-launch/v1`, then for each part its name
//! and its value, each with its length in eight bytes, big-endian, before it (`docs/launch.md`).

use std::{fmt, path::PathBuf};

use aws_lc_rs::digest::{self, SHA256};
use serde::Serialize;

/// A SHA-256.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct Digest(pub(super) [u8; 32]);

/// What was measured of a program, in the order of the digest.
#[derive(Debug, Default)]
pub(super) struct Measurement {
    parts: Vec<(&'static str, Vec<u8>)>,
    script: Option<Digest>,
    lock: Option<Digest>,
    warnings: Vec<String>,
}

/// The same for whoever registers it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) measurement: String,
    pub(super) selectors: Vec<String>,
    pub(super) parts: Vec<Part>,
    pub(super) warnings: Vec<String>,
}

/// One part, readable.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) value: String,
}

/// Why a command is not measured, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unmeasurable {
    #[error(
        "no program is named; write writ run -- PROGRAM ARGUMENTS, where an interpreter needs the file that it shall run"
    )]
    NoProgram,
    #[error("there is no program {0:?} on PATH")]
    NotFound(String),
    #[error(
        "the option {0} lets code run that is not measured; do without it, or put the code into a file of the program"
    )]
    Option(String),
    #[error(
        "{0} runs other programs or scripts, which Writ does not measure; run python, node, java, sh or a binary itself"
    )]
    Runs(String),
    #[error("{} is neither a binary nor a script that begins with #!", .0.display())]
    NoFormat(PathBuf),
    #[error("{} can be changed by others than root ({}); use an interpreter that only root can change", program.display(), place.display())]
    Loose { program: PathBuf, place: PathBuf },
    #[error("{} has more than {most} {what}; put the program into a folder of its own, or raise launch.{what}", of.display())]
    TooMany { what: &'static str, most: u64, of: PathBuf },
    #[error("{} lies too deep; put the program into a folder of its own", of.display())]
    TooDeep { of: PathBuf },
    #[error("{} holds the agent's own folder {}; put the program into a folder of its own", of.display(), folder.display())]
    HoldsCopies { of: PathBuf, folder: PathBuf },
    #[error("measuring took too long, at {}; put the program into a folder of its own, or raise launch.time", of.display())]
    TooSlow { of: PathBuf },
    #[error("{} leads out of the program to {}, which others than root can change; copy it into the program", link.display(), target.display())]
    LeadsOut { link: PathBuf, target: PathBuf },
    #[error("{} adds {place} to the program, which is not measured; install the package itself instead of a link to it", file.display())]
    Editable { file: PathBuf, place: String },
    #[error("{} changed while it was measured; try again", .0.display())]
    Changed(PathBuf),
    #[error("{} has no file {}", root.display(), file.display())]
    Missing { root: PathBuf, file: PathBuf },
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("cannot copy to {}: {source}", path.display())]
    Uncopied { path: PathBuf, source: std::io::Error },
    #[error("nobody waits for it any more")]
    NobodyWaits,
}

impl Measurement {
    /// Adds a part. Parts are never left out because they are empty: the digest says that they are.
    pub(super) fn add(&mut self, name: &'static str, value: impl AsRef<[u8]>) {
        self.parts.push((name, value.as_ref().to_vec()));
    }

    /// The script, archive or module itself, or the binary that is the program.
    pub(super) fn add_script(&mut self, digest: Digest) {
        self.script = Some(digest);
        self.add("script", digest.to_string());
    }

    /// The lock file, or what is installed.
    pub(super) fn add_lock(&mut self, digest: Digest) {
        self.lock = Some(digest);
        self.add("lock", digest.to_string());
    }

    /// Says what is not covered.
    pub(super) fn warn(&mut self, sentence: impl Into<String>) {
        self.warnings.push(sentence.into());
    }

    /// The values of the selectors `launch:…`.
    pub(super) fn values(&self) -> Vec<String> {
        let script = self.script.map(|digest| format!("script_sha256:{digest}"));
        let lock = self.lock.map(|digest| format!("lock_sha256:{digest}"));
        [Some(format!("measurement:{}", self.digest())), script, lock].into_iter().flatten().collect()
    }

    /// For whoever registers it.
    pub(super) fn shown(&self) -> Shown {
        let part = |(name, value): &(&'static str, Vec<u8>)| Part {
            name,
            value: String::from_utf8_lossy(value).into_owned(),
        };
        Shown {
            measurement: self.digest().to_string(),
            selectors: self.values().into_iter().map(|value| format!("launch:{value}")).collect(),
            parts: self.parts.iter().map(part).collect(),
            warnings: self.warnings.clone(),
        }
    }

    fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        };
        put(VERSION);
        for (name, value) in &self.parts {
            put(name.as_bytes());
            put(value);
        }
        Digest::of(digest::digest(&SHA256, &bytes))
    }
}

impl Digest {
    pub(super) fn of(digest: digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

const VERSION: &[u8] = b"writ-launch/v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(parts: &[(&'static str, &str)]) -> String {
        let mut measurement = Measurement::default();
        for (name, value) in parts {
            measurement.add(name, value);
        }
        measurement.shown().measurement
    }

    #[test]
    fn the_digest_is_the_one_that_the_documentation_tells_how_to_make() {
        let mut bytes = Vec::new();
        for part in ["writ-launch/v1", "kind", "binary"] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        let by_hand = hex::encode(digest::digest(&SHA256, &bytes));
        assert_eq!(measured(&[("kind", "binary")]), by_hand);
    }

    #[test]
    fn no_two_lists_of_parts_share_a_digest_by_moving_bytes_between_them() {
        let all = [
            measured(&[("argument", "ab"), ("argument", "c")]),
            measured(&[("argument", "a"), ("argument", "bc")]),
            measured(&[("argument", "abc")]),
            measured(&[("argument", "abc"), ("argument", "")]),
            measured(&[("environment", "abc")]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[n + 1..].contains(one));
        }
    }
}
