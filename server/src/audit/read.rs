//! Giving out the audit log: entries in their order, the files of a whole log, and proofs.

use audit::{
    Hash,
    tree::{Tile, bundle, proof},
};
use store::{AuditReader, StoreError};
use tokio::sync::mpsc;

use super::Audit;

/// Entries that stand behind each other.
pub(crate) struct Stretch {
    pub(crate) first: u64,
    pub(crate) leaves: Vec<Vec<u8>>,
}

/// A file of a log.
pub(crate) struct Exported {
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
}

/// Which entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) from: u64,
    /// Before this one; without it to the end.
    pub(crate) to: Option<u64>,
    pub(crate) follow: bool,
}

/// Sends entries until all have been sent, or nobody takes them any more.
pub(crate) async fn entries(audit: Audit, range: Range, out: mpsc::Sender<Result<Stretch, StoreError>>) {
    let mut published = audit.published();
    let mut next = range.from;
    loop {
        let size = published.borrow_and_update().size;
        let end = range.to.map_or(size, |to| to.min(size));
        while next < end {
            let (audit, to) = (audit.clone(), end.min(next + AT_ONCE));
            let read = move || audit.reader()?.entries(next, to);
            let stretch = match tokio::task::spawn_blocking(read).await {
                Ok(read) => read.map(|leaves| Stretch { first: next, leaves }),
                Err(_) => return,
            };
            let failed = stretch.is_err();
            if out.send(stretch).await.is_err() || failed {
                return;
            }
            next = to;
        }
        let over = !range.follow || range.to.is_some_and(|to| next >= to);
        if over {
            return;
        }
        tokio::select! {
            () = out.closed() => return,
            changed = published.changed() => if changed.is_err() { return },
        }
    }
}

/// Sends every file of the log as it is now; the checkpoint comes last. Takes a thread for itself.
pub(crate) fn export(audit: &Audit, out: &mpsc::Sender<Result<Exported, StoreError>>) {
    let published = audit.published().borrow().clone();
    let files = || -> Result<(), StoreError> {
        let (reader, size) = (audit.reader()?, published.size);
        let send = |path, content| out.blocking_send(Ok(Exported { path, content })).is_ok();
        for tile in Tile::of_level(0, size) {
            let first = tile.index * 256;
            let mut content = Vec::new();
            for entry in reader.entries(first, first + u64::from(tile.width))? {
                if !bundle::push(&mut content, &entry) {
                    return Err(StoreError::Tampered {
                        what: "an entry of the audit log is too long".to_owned(),
                    });
                }
            }
            // What was kept when they were appended, so that a changed entry contradicts it.
            let hashes = reader.tile(tile)?;
            if !send(tile.bundle_path(), content) || !send(tile.path(), Tile::write(&hashes)) {
                return Ok(());
            }
        }
        for level in 1..Tile::levels(size) {
            for tile in Tile::of_level(level, size) {
                if !send(tile.path(), Tile::write(&reader.tile(tile)?)) {
                    return Ok(());
                }
            }
        }
        send("checkpoint".to_owned(), published.note.clone().into_bytes());
        Ok(())
    };
    if let Err(error) = files() {
        let _ = out.blocking_send(Err(error));
    }
}

/// An entry and the hashes that prove it.
type Proved = (Vec<u8>, Vec<Hash>);

/// An entry with the proof that it is in a tree.
pub(crate) fn inclusion(reader: &AuditReader, index: u64, size: u64) -> Result<Option<Proved>, StoreError> {
    let Some(hashes) = proof::inclusion(reader, index, size)? else { return Ok(None) };
    Ok(reader.entries(index, index + 1)?.pop().map(|leaf| (leaf, hashes)))
}

const AT_ONCE: u64 = 512;
