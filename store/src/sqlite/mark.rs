//! The mark: the newest witness, in a file beside the database, so that an older copy of the database
//! put in its place is noticed when it is opened.
//!
//! It is written after each commit and not synced: that costs microseconds and outlives a killed process.
//! After a power cut it may be older than the log, which is no harm; it is never newer.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use registry::{LogId, Revision};

use crate::{StoreError, Witness};

/// The file, open for as long as the log.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: File,
}

/// Well within one sector of a disk, so that it is written whole or not at all.
const MOST_BYTES: usize = 400;

impl Mark {
    /// The mark of the database at `log`, and what it says; nothing in a new one.
    pub(super) fn open(log: &Path) -> Result<(Self, Option<Witness>), StoreError> {
        let path = log.with_extension("mark");
        let failed = |source| StoreError::Io { action: "open", path: path.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mut bytes = [0; MOST_BYTES];
        let length = file.read_at(&mut bytes, 0).map_err(failed)?;
        let witness = match length {
            0 => None,
            _ => Some(parse(&bytes[..length]).ok_or_else(|| {
                super::tampered(format!(
                    "{} is damaged (if log.db is known to be the newest, remove it and start again)",
                    path.display()
                ))
            })?),
        };
        Ok((Self { path, file }, witness))
    }

    /// Notes the newest witness.
    pub(super) fn write(&self, witness: &Witness) -> Result<(), StoreError> {
        let Witness { log, revision, .. } = witness;
        let line = format!("writ-mark-v1 {} {:020} {}\n", log.0, revision.0, hex::encode(witness.proof()));
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::StorageFull => StoreError::Full,
            _ => StoreError::Io { action: "write", path: self.path.clone(), source },
        };
        self.file.write_all_at(line.as_bytes(), 0).map_err(failed)
    }
}

fn parse(bytes: &[u8]) -> Option<Witness> {
    let line = std::str::from_utf8(bytes).ok()?.split_once('\n')?.0;
    let [version, log, revision, proof] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let proof = hex::decode(proof).ok().filter(|_| version == "writ-mark-v1")?;
    Witness::from_parts(LogId(log.to_owned()), Revision(revision.parse().ok()?), &proof)
}
