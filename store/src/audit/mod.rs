//! The audit log on disk: one append-only Merkle log in a SQLite file of its own, beside the log of objects.
//!
//! Entries, the tiles that have become full, the hashes of the last tile, how far each source was merged, and the newest
//! checkpoint become durable in one transaction, so a source's entry is merged once, and a checkpoint is never of
//! entries that a crash took back. What lies sealed beside an entry is in a table of its own: it can be
//! deleted, and every proof goes on to hold.

mod open;
mod read;

use std::path::{Path, PathBuf};

use audit::{
    Hash,
    tree::{Edge, FullTile, Tile},
};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

pub use read::AuditReader;

use crate::StoreError;

/// The audit log, for the one who appends.
#[derive(Debug)]
pub struct AuditLog {
    connection: Connection,
    path: PathBuf,
    edge: Edge,
    fenced: bool,
}

/// An entry and what lies sealed beside it; empty where nothing does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NewEntry {
    /// What is hashed.
    pub leaf: Vec<u8>,
    /// What is not.
    pub sealed: Vec<u8>,
}

/// What becomes durable together.
#[derive(Debug, Default)]
pub struct Batch {
    /// In their order.
    pub entries: Vec<NewEntry>,
    /// How far which sources have been merged then.
    pub cursors: Vec<(String, Vec<u8>)>,
}

impl AuditLog {
    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The root over all entries.
    pub fn root(&self) -> Hash {
        self.edge.root()
    }

    /// Where the database lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a batch; `sign` makes the checkpoint of the size and the root that there are then. Both are
    /// durable on return, or neither.
    pub fn append(
        &mut self,
        batch: &Batch,
        sign: impl FnOnce(u64, Hash) -> String,
    ) -> Result<String, StoreError> {
        if self.fenced {
            return Err(StoreError::Fenced);
        }
        match self.try_append(batch, sign) {
            Ok((edge, checkpoint)) => {
                self.edge = edge;
                Ok(checkpoint)
            }
            Err(StoreError::Full) => {
                if !self.connection.is_autocommit() && self.connection.execute_batch("ROLLBACK").is_err() {
                    self.fenced = true;
                }
                Err(StoreError::Full)
            }
            Err(error) => {
                self.fenced = true;
                Err(error)
            }
        }
    }

    fn try_append(
        &mut self,
        batch: &Batch,
        sign: impl FnOnce(u64, Hash) -> String,
    ) -> Result<(Edge, String), StoreError> {
        let mut edge = self.edge.clone();
        let transaction = self.connection.transaction()?;
        for entry in &batch.entries {
            write_entry(&transaction, edge.size(), entry)?;
            for full in edge.push(Hash::leaf(&entry.leaf)) {
                write_tile(&transaction, &full)?;
            }
        }
        // INVARIANT: an entry is hashed once, when it is appended. Whoever changes it later contradicts what is kept.
        put(&transaction, "meta", LAST_TILE, &Tile::write(edge.partial(0)))?;
        for (source, cursor) in &batch.cursors {
            put(&transaction, "cursors", source, cursor)?;
        }
        let checkpoint = sign(edge.size(), edge.root());
        put(&transaction, "meta", CHECKPOINT, checkpoint.as_bytes())?;
        transaction.commit()?;
        Ok((edge, checkpoint))
    }

    /// Deletes what lies sealed beside an entry, and appends the record of that. `false` where there was
    /// nothing, and then nothing is appended.
    pub fn erase(
        &mut self,
        index: u64,
        record: &Batch,
        sign: impl FnOnce(u64, Hash) -> String,
    ) -> Result<bool, StoreError> {
        // Overwritten and not only unlinked: `secure_delete` is on. The record goes first: a crash between
        // the two leaves a record of an erasure that is then asked for again.
        let exists: i64 = self.connection.query_row(
            "SELECT count(*) FROM sealed WHERE idx = ?1",
            [index as i64],
            |row| row.get(0),
        )?;
        if exists == 0 {
            return Ok(false);
        }
        self.append(record, sign)?;
        self.connection.execute("DELETE FROM sealed WHERE idx = ?1", [index as i64])?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(true)
    }

    /// How far a source was merged, as it was said.
    pub fn cursor(&self, source: &str) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.connection, "cursors", source)
    }

    /// Something that is known of the whole log.
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.connection, "meta", name)
    }

    /// Notes something of the whole log.
    pub fn set_meta(&mut self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        put(&transaction, "meta", name, value)?;
        Ok(transaction.commit()?)
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        Ok(self.meta(CHECKPOINT)?.and_then(|note| String::from_utf8(note).ok()))
    }

    /// Lets the database grow to `pages` pages (of 4 KiB) and no further: then the disk counts as full.
    pub fn limit_pages(&mut self, pages: u32) -> Result<(), StoreError> {
        Ok(self.connection.pragma_update(None, "max_page_count", pages)?)
    }
}

fn write_entry(transaction: &Transaction<'_>, index: u64, entry: &NewEntry) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT INTO entries (idx, leaf) VALUES (?1, ?2)")?
        .execute(params![index as i64, entry.leaf])?;
    if !entry.sealed.is_empty() {
        transaction
            .prepare_cached("INSERT INTO sealed (idx, payload) VALUES (?1, ?2)")?
            .execute(params![index as i64, entry.sealed])?;
    }
    Ok(())
}

fn write_tile(transaction: &Transaction<'_>, full: &FullTile) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT INTO tiles (level, idx, hashes) VALUES (?1, ?2, ?3)")?
        .execute(params![full.tile.level, full.tile.index as i64, Tile::write(&full.hashes)])?;
    Ok(())
}

fn put(
    transaction: &Transaction<'_>,
    table: &'static str,
    name: &str,
    value: &[u8],
) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO {table} (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2"
    );
    transaction.prepare_cached(&sql)?.execute(params![name, value])?;
    Ok(())
}

fn get(connection: &Connection, table: &'static str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut select = connection.prepare_cached(&format!("SELECT value FROM {table} WHERE name = ?1"))?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

const CHECKPOINT: &str = "checkpoint";
/// The hashes of the entries behind the last full tile.
const LAST_TILE: &str = "last_tile";

#[cfg(test)]
mod tests;
