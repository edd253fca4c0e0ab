//! What every log can do.

use std::path::Path;

use registry::{Commit, LogId, Revision, Stored};

use crate::StoreError;

/// A log of commits and the objects that follow from them. One writer owns it.
///
/// Whatever comes out of a log was checked: a row that was changed, added, removed or put back
/// outside of Writ is an error that names it, never a value.
pub trait Log: Send {
    /// Which log this is.
    fn id(&self) -> &LogId;

    /// The objects as they are after the last commit.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Makes a group of commits durable, all of them or none. When this returns `Ok` they survive
    /// whatever happens to the process or the machine.
    ///
    /// The group must follow the last revision without a gap, and versions must follow versions.
    /// After [`StoreError::Full`] nothing of the group is there and the log goes on; after
    /// [`StoreError::Fenced`] nobody knows, so this log refuses everything until it is opened again.
    fn commit(&mut self, group: &[Commit]) -> Result<(), StoreError>;

    /// Commits after `from`, oldest first, at most a thousand; none where `from` is the last one.
    fn tail(&mut self, from: Revision) -> Result<Vec<Commit>, StoreError>;

    /// Forgets events but the newest `keep` (at least one stays). Objects and audit leaves stay.
    fn compact(&mut self, keep: u64) -> Result<(), StoreError>;

    /// Writes a copy of the log as it is now to a new file, which can be opened like the log.
    fn backup(&mut self, to: &Path) -> Result<(), StoreError>;
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The last commit's revision; 0 where there is none.
    pub revision: Revision,
    /// Commits up to this one were compacted, so `tail` begins after it.
    pub floor: Revision,
    /// Every object, in no order.
    pub objects: Vec<Stored>,
}
