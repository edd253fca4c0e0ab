//! Opening the audit log, and copying it.

use std::{fs, io, path::Path, time::Duration};

use audit::{
    Hash,
    tree::{Edge, Tile},
};
use rusqlite::{Connection, OpenFlags, backup::Backup};

use super::{AuditLog, read};
use crate::{StoreError, sqlite::create_private};

/// "Wrau", in the file's header.
const APPLICATION_ID: i64 = 0x5772_6175;
const FORMAT: i64 = 1;
const TABLES: &str = "
    CREATE TABLE entries (idx INTEGER PRIMARY KEY, leaf BLOB NOT NULL) STRICT;
    CREATE TABLE sealed (idx INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
    CREATE TABLE tiles (
        level INTEGER NOT NULL, idx INTEGER NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (level, idx)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE cursors (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

impl AuditLog {
    /// Opens the audit log at `path`, or makes an empty one. Whoever opens it keeps others away from the
    /// directory.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        create_private(path).or_else(|error| match error {
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => Err(other),
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        prepare(&connection, path)?;
        let size: i64 =
            connection.query_row("SELECT coalesce(max(idx) + 1, 0) FROM entries", [], |row| row.get(0))?;
        let edge = Edge::open(size as u64, |tile| last_tile(&connection, tile))?;
        Ok(Self { connection, path: path.to_owned(), edge, fenced: false })
    }

    /// Writes a consistent copy to `to`, which must not exist, while the log is in use.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        create_private(to)?;
        let copied = || -> Result<(), StoreError> {
            let mut copy = Connection::open(to)?;
            copy.pragma_update(None, "synchronous", "OFF")?; // whoever keeps it makes it durable
            Backup::new(&self.connection, &mut copy)?.run_to_completion(1024, Duration::ZERO, None)?;
            Ok(copy.close().map_err(|(_, error)| error)?)
        };
        copied().inspect_err(|_| drop(fs::remove_file(to))) // half a backup is none
    }
}

/// The hashes of a tile that is not full: of level 0 they are those of entries, above they are the roots of
/// full tiles below.
fn last_tile(connection: &Connection, tile: Tile) -> Result<Vec<Hash>, StoreError> {
    let first = tile.index * 256;
    if tile.level == 0
        && let Some(kept) = read::last_hashes(connection)?
    {
        let fits = kept.len() == usize::from(tile.width);
        let what = || format!("the audit log has other entries behind {first} than it had");
        return fits.then_some(kept).ok_or_else(|| StoreError::Tampered { what: what() });
    }
    // A log of a version that did not keep them.
    (first..first + u64::from(tile.width))
        .map(|index| match tile.level.checked_sub(1) {
            None => read::leaf(connection, index).map(|leaf| Hash::leaf(&leaf)),
            Some(below) => {
                let hashes = read::full_tile(connection, Tile { level: below, index, width: 256 })?;
                Ok(read::root_of(&hashes))
            }
        })
        .collect()
}

fn prepare(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(32);
    connection.busy_timeout(Duration::from_secs(5))?;
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, format) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if format > FORMAT {
        return Err(StoreError::Newer { found: format, known: FORMAT });
    }
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384;",
    )?;
    if tables == 0 {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES}
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
        ))?;
    }
    Ok(())
}
