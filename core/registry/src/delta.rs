//! How a node's view of the registry follows the log.

use crate::{
    commit::{LogId, Revision},
    objects::{Key, Stored},
};

/// What changed in one node's view: `view(from) + delta = view(to)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// The log that the revisions belong to.
    pub log: LogId,
    /// The revision that the view had.
    pub from: Revision,
    /// The revision that it has then.
    pub to: Revision,
    /// Objects new or changed.
    pub put: Vec<Stored>,
    /// Objects that left the view.
    pub gone: Vec<Key>,
}

/// A whole view, where a delta is not possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The log that the revision belongs to.
    pub log: LogId,
    /// The revision that the view has.
    pub at: Revision,
    /// Everything in the view.
    pub objects: Vec<Stored>,
}

/// What a node that has its view at some revision needs now.
#[derive(Clone, Debug, PartialEq)]
pub enum Follow {
    /// Nothing: the view is at the registry's revision.
    UpToDate,
    /// This; empty where nothing in the view changed and only the revision went on.
    Delta(Delta),
    /// The whole view, because it cannot be followed from there: another log, a revision from the
    /// future or forgotten, a node that sat down anew or has other selectors.
    Snapshot(Snapshot),
    /// The node is unknown or banned: its streams end.
    NoView,
}
