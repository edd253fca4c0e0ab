//! Opening the file: ours, ours alone, and in a format that we know.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use registry::{LogId, Revision};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::{Head, Sqlite, mark::Mark, tampered};
use crate::{
    Judged, Log as _, MacKey, Origin, StoreError,
    seal::{Seal, Sum},
};

const BUSY: Duration = Duration::from_secs(1);
/// "Writ", in the file's header.
const APPLICATION_ID: i64 = 0x5772_6974;

/// How the format grew; the number of steps taken stands in `user_version`. A step never changes once
/// it has been released.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL, mac BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE objects (
        key TEXT PRIMARY KEY, version INTEGER NOT NULL, revision INTEGER NOT NULL,
        body BLOB NOT NULL, mac BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        revision INTEGER PRIMARY KEY, at INTEGER NOT NULL, author BLOB NOT NULL, changes BLOB NOT NULL,
        sum BLOB NOT NULL, leaf_mac BLOB NOT NULL, mac BLOB NOT NULL
    ) STRICT;
    CREATE TABLE leaves (revision INTEGER PRIMARY KEY, leaf BLOB NOT NULL, mac BLOB NOT NULL) STRICT;
"];

impl Sqlite {
    /// Opens the log at `path`, or makes a new one under a new identity where there is none.
    pub fn open(path: &Path, key: MacKey) -> Result<Self, StoreError> {
        Self::open_noted(path, key, false)
    }

    /// The same, also where the log is an older copy of itself; it must begin anew before it is used.
    pub fn open_put_back(path: &Path, key: MacKey) -> Result<Self, StoreError> {
        Self::open_noted(path, key, true)
    }

    fn open_noted(path: &Path, key: MacKey, anyway: bool) -> Result<Self, StoreError> {
        create_private(path).or_else(|error| match error {
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => Err(other),
        })?;
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        prepare(&connection, path)?;
        check_private(path)?;
        let id = log_id(&connection, &key)?;
        let origin = origin(&connection, &key)?;
        let head = head(&connection, &key)?;
        let (mark, noted) = Mark::open(path)?;
        let path = path.to_owned();
        let mut log =
            Self { connection, path, key, id, origin, mark, head, sum: None, uncarried: 0, fenced: false };
        match noted.filter(|_| !anyway) {
            // Of another log: a whole database was exchanged.
            Some(noted) if log.judge(&noted)? != Judged::Known => {
                let (at, seen) = (log.head.revision, noted.revision);
                Err(StoreError::RolledBack { at, seen })
            }
            _ => Ok(log),
        }
    }
}

/// Makes an empty file that its owner alone can read; SQLite gives its side files the same mode.
pub(crate) fn create_private(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map(drop).map_err(|source| StoreError::Io { action: "create", path: path.to_owned(), source })
}

fn check_private(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io { action: "read", path: path.to_owned(), source };
    match fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777 {
        mode if mode & 0o077 != 0 => Err(StoreError::Exposed { path: path.to_owned(), mode }),
        _ => Ok(()),
    }
}

fn prepare(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let refused = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StoreError::InUse { path: path.to_owned() }
        }
        Some(ErrorCode::NotADatabase) => StoreError::Foreign { path: path.to_owned() },
        _ => StoreError::from(error),
    };
    connection.set_prepared_statement_cache_capacity(32);
    connection.busy_timeout(BUSY)?; // a server that is just ending may still hold it
    connection
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF;")
        .map_err(refused)?;
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, done) =
        (number("application_id").map_err(refused)?, number("user_version").map_err(refused)?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(refused)?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(StoreError::Foreign { path: path.to_owned() }); // and nothing of it was touched
    }
    // Keys are random, so a large batch touches pages all over the tree: with SQLite's own 2 MiB of cache
    // most of the time of a batch would be spent on reading them again. The write-ahead log is carried
    // over by `Sqlite::carry_over`.
    let pragmas = "PRAGMA journal_mode = WAL;
                   PRAGMA synchronous = FULL;
                   PRAGMA journal_size_limit = 67108864;
                   PRAGMA cache_size = -32768;
                   PRAGMA wal_autocheckpoint = 0;
                   BEGIN IMMEDIATE; COMMIT;";
    connection.execute_batch(pragmas).map_err(refused)?;
    let known = MIGRATIONS.len() as i64;
    if done > known {
        return Err(StoreError::Newer { found: done, known });
    }
    for (step, migration) in MIGRATIONS.iter().enumerate().skip(usize::try_from(done).unwrap_or(0)) {
        let version = step + 1;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {migration}
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// The log's identity; made in a new log.
fn log_id(connection: &Connection, key: &MacKey) -> Result<LogId, StoreError> {
    if let Some(id) = meta(connection, key, LOG)? {
        return Ok(LogId(id));
    }
    let events: i64 = connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
    if events > 0 {
        return Err(tampered("the log's identity is missing"));
    }
    let id = fresh_id()?;
    put_meta(connection, key, LOG, &id.0)?;
    Ok(id)
}

/// Gives the log a new identity that remembers the old one.
pub(super) fn rename(
    connection: &Connection,
    key: &MacKey,
    id: &LogId,
    from: &Origin,
) -> Result<(), StoreError> {
    put_meta(connection, key, LOG, &id.0)?;
    put_meta(connection, key, ORIGIN, &format!("{} {}", from.log.0, from.revision.0))
}

fn origin(connection: &Connection, key: &MacKey) -> Result<Option<Origin>, StoreError> {
    let Some(text) = meta(connection, key, ORIGIN)? else { return Ok(None) };
    let parsed = text.split_once(' ').and_then(|(log, revision)| {
        Some(Origin { log: LogId(log.to_owned()), revision: Revision(revision.parse().ok()?) })
    });
    parsed.map(Some).ok_or_else(|| tampered("the log's origin is not one"))
}

const LOG: &str = "log";
const ORIGIN: &str = "origin";

pub(super) fn fresh_id() -> Result<LogId, StoreError> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| StoreError::Fenced)?;
    Ok(LogId(hex::encode(random)))
}

fn meta(connection: &Connection, key: &MacKey, name: &str) -> Result<Option<String>, StoreError> {
    let found: Option<(Vec<u8>, [u8; 32])> = connection
        .query_row("SELECT value, mac FROM meta WHERE name = ?1", [name], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((value, mac)) = found else { return Ok(None) };
    let text = String::from_utf8(value).map_err(|_| tampered("the log's identity is not a text"))?;
    match key.seal("meta", &[name.as_bytes(), text.as_bytes()]).0 == mac {
        true => Ok(Some(text)),
        false => Err(tampered("the log's identity does not match its seal, or mac.key is another log's")),
    }
}

fn put_meta(connection: &Connection, key: &MacKey, name: &str, text: &str) -> Result<(), StoreError> {
    let seal = key.seal("meta", &[name.as_bytes(), text.as_bytes()]);
    let put = "INSERT OR REPLACE INTO meta (name, value, mac) VALUES (?1, ?2, ?3)";
    connection.execute(put, params![name, text.as_bytes(), seal.0])?;
    Ok(())
}

/// What the newest event says; rows are checked against it when they are loaded.
fn head(connection: &Connection, key: &MacKey) -> Result<Head, StoreError> {
    let newest = connection
        .query_row("SELECT max(revision) FROM events", [], |row| row.get::<_, Option<i64>>(0))?
        .map(|revision| super::events::read_row(connection, key, revision))
        .transpose()?;
    let rows: i64 = connection.query_row(
        "SELECT (SELECT count(*) FROM objects) + (SELECT count(*) FROM leaves)",
        [],
        |row| row.get(0),
    )?;
    match newest {
        Some(event) => Ok(Head { revision: event.revision, sum: event.sum, leaf: event.leaf }),
        None if rows == 0 => {
            Ok(Head { revision: Revision(0), sum: key.seal_sum(0, Sum::default()), leaf: Seal([0; 32]) })
        }
        None => Err(tampered("the newest event is missing")),
    }
}
