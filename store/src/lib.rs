//! The log on disk. It knows no nouns: an object is a key, a version and a body.
//!
//! Every implementation of [`Log`] keeps the same promises, and one contract suite checks them all.
//! Lists, filters and pages come from the registry in memory, never from here.

pub mod audit;
mod error;
pub mod memory;
pub mod seal;
pub mod sqlite;
pub mod witness;

use std::path::Path;

pub use audit::{AuditLog, AuditReader, Batch, NewEntry};
pub use error::StoreError;
pub use memory::Memory;
use registry::{Commit, LogId, Revision, Stored};
pub use seal::MacKey;
pub use sqlite::Sqlite;
pub use witness::{Judged, Origin, Witness};

/// A durable log of commits and the objects that they add up to.
pub trait Log: Send {
    /// Which log this is.
    fn id(&self) -> &LogId;

    /// Everything as of the last commit, after all of it has been checked.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Makes these commits durable, all or none of them. They must follow what is there without a gap.
    ///
    /// After an error that leaves open what reached the disk, the log is fenced: it refuses everything
    /// from then on, and whoever holds it must open it anew and look.
    fn commit(&mut self, group: &[Commit]) -> Result<(), StoreError>;

    /// The commits after `after`, in order. [`StoreError::Compacted`] where some of them are forgotten.
    fn tail(&mut self, after: Revision) -> Result<Vec<Commit>, StoreError>;

    /// The audit leaves after `after`, so many at most, with their revisions. They are never forgotten.
    fn leaves(&mut self, after: Revision, most: usize) -> Result<Vec<(Revision, Vec<u8>)>, StoreError>;

    /// Forgets the events up to and with `upto`. Objects and audit leaves stay.
    fn compact(&mut self, upto: Revision) -> Result<(), StoreError>;

    /// Writes a consistent copy to `to`, which must not exist, while the log is in use.
    fn backup(&mut self, to: &Path) -> Result<(), StoreError>;

    /// Proof of what the newest commit is, for others to keep.
    fn witness(&self) -> Witness;

    /// What a witness that somebody has kept shows. One that proves this log to be an older copy of
    /// itself is an error, [`StoreError::RolledBack`], also when the log is opened the next time.
    fn judge(&mut self, kept: &Witness) -> Result<Judged, StoreError>;

    /// Goes on under a new identity, because this is a copy of the log that it was; `first` is the new
    /// log's first commit, and follows what is there. Both are durable, or neither.
    fn begin_anew(&mut self, first: &Commit) -> Result<(), StoreError>;

    /// Which log this one goes on from, if from any.
    fn origin(&self) -> Option<&Origin>;
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The last commit's revision; 0 in a new log.
    pub revision: Revision,
    /// Every live object.
    pub objects: Vec<Stored>,
}

/// Checks that `group` follows `at` without a gap.
fn follows(at: Revision, group: &[Commit]) -> Result<(), StoreError> {
    let mut last = at;
    for commit in group {
        if commit.revision != last.next() {
            return Err(StoreError::Gap { at: last, got: commit.revision });
        }
        last = commit.revision;
    }
    Ok(())
}
