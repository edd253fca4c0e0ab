//! What can go wrong with a log, said to the operator.

use std::{fmt, path::PathBuf};

use registry::Revision;

/// Why a log could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the log {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Another process has it.
    #[error("another server has the log {} open; stop that one first", .0.display())]
    InUse(PathBuf),
    /// The file is something else.
    #[error("{} is not a log of Writ; name another state directory", .0.display())]
    NotALog(PathBuf),
    /// A newer Writ made it.
    #[error("the log {} has format {found} and this Writ knows {known}; run a newer Writ", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is understood here.
        known: u32,
    },
    /// Others could read or change the file.
    #[error("{} can be read or changed by others (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Something in it is not what Writ wrote, or was written under another key.
    #[error("{row} was changed outside of Writ ({reason}); stop the server and run: writ backup restore")]
    Damaged {
        /// Where.
        row: Row,
        /// How it shows.
        reason: String,
    },
    /// The disk is full; nothing of the group is there.
    #[error("the disk is full, so nothing was written; free some space and try again")]
    Full,
    /// A write failed and nobody knows what is on disk.
    #[error("the log stopped because a write failed ({0}); see to the disk and start the server again")]
    Fenced(String),
    /// A commit does not follow the last one.
    #[error("revision {got} does not follow {at}", at = .at.0, got = .got.0)]
    Gap {
        /// The last revision.
        at: Revision,
        /// What came.
        got: Revision,
    },
    /// An object's version does not follow the one that is there.
    #[error("{key} is at version {at}, so version {got} does not follow")]
    Version {
        /// The object's key.
        key: String,
        /// The version that is there; 0 for none.
        at: u64,
        /// The version that came; 0 for a deletion.
        got: u64,
    },
    /// Events that old are forgotten.
    #[error("commits up to {floor} were compacted, so nothing can be repeated from {from}", floor = .floor.0, from = .from.0)]
    Compacted {
        /// Where it was asked to begin.
        from: Revision,
        /// Where it can.
        floor: Revision,
    },
    /// The copy could not be written; the log itself is well.
    #[error("cannot write the backup {}: {reason}", path.display())]
    Backup {
        /// The copy.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// A place in a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Row {
    /// The file as such.
    File,
    /// What the log says of itself, by name.
    Meta(String),
    /// An object, by key.
    Object(String),
    /// All objects together: one is missing, one too many, or an old one was put back.
    Objects,
    /// An event, by revision.
    Event(u64),
    /// An audit leaf, by revision.
    Leaf(u64),
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("the log's file"),
            Self::Meta(name) => write!(f, "the log's {name:?}"),
            Self::Object(key) => write!(f, "object {key:?}"),
            Self::Objects => f.write_str("the set of objects"),
            Self::Event(revision) => write!(f, "event {revision}"),
            Self::Leaf(revision) => write!(f, "audit leaf {revision}"),
        }
    }
}
