//! What is known of a spool beside its segments. It is overwritten in place, in two slots by turns: that
//! needs no room on a full disk, and a torn one leaves the other.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use audit::{Hash, spool::SpoolId};
use serde::{Deserialize, Serialize};

/// What is known of a spool beside its segments.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marks {
    /// Counts the writes: the newest of the two slots counts.
    pub(super) turn: u64,
    /// Whose records are in it.
    pub(super) node: String,
    /// Which spool the server has acknowledged something of.
    pub(super) spool: Option<SpoolId>,
    /// Up to which record; only these may be deleted.
    pub(super) acknowledged: u64,
}

impl Marks {
    /// Of a spool without records.
    pub(super) fn of(node: &str) -> Self {
        Self { node: node.to_owned(), ..Self::default() }
    }

    /// The newest that was written in this directory.
    pub(super) fn read(dir: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(dir.join(MARKS)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let slots = bytes.chunks(SLOT).filter_map(Self::in_slot);
        Ok(slots.max_by_key(|marks| marks.turn).unwrap_or_default())
    }

    /// Makes it durable.
    pub(super) fn write(&mut self, dir: &Path) -> io::Result<()> {
        self.turn += 1;
        let path = dir.join(MARKS);
        let file = open(&path)?;
        let json = serde_json::to_vec(self)?;
        let mut slot = Hash::leaf(&json).0.to_vec();
        slot.extend_from_slice(&json);
        if slot.len() >= SLOT {
            return Err(io::Error::other("the node's name is too long"));
        }
        slot.resize(SLOT, 0);
        file.write_all_at(&slot, self.turn % 2 * SLOT as u64)?;
        file.sync_data()
    }

    fn in_slot(slot: &[u8]) -> Option<Self> {
        let (hash, rest) = slot.split_first_chunk::<32>()?;
        let end = rest.iter().rposition(|byte| *byte != 0)?;
        let json = &rest[..=end];
        (Hash::leaf(json).0 == *hash).then(|| serde_json::from_slice(json).ok())?
    }
}

/// The file with the room of both slots.
fn open(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.len() < 2 * SLOT as u64 {
        file.write_all_at(&[0; 2 * SLOT], 0)?;
        file.sync_all()?;
        super::segments::sync_dir(path)?;
    }
    Ok(file)
}

pub(super) const MARKS: &str = "marks";
const SLOT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Marks::read(dir.path()).unwrap(), Marks::default());
        let mut marks = Marks::of("web-1");
        for acknowledged in 1..4 {
            marks.acknowledged = acknowledged;
            marks.write(dir.path()).unwrap();
            assert_eq!(Marks::read(dir.path()).unwrap(), marks);
        }
        let newest = marks.turn % 2 * SLOT as u64;
        let file = OpenOptions::new().write(true).open(dir.path().join(MARKS)).unwrap();
        file.write_all_at(b"torn", newest + 40).unwrap();
        assert_eq!(Marks::read(dir.path()).unwrap().acknowledged, 2, "the other one is whole");
    }
}
