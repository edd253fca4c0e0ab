//! The log in SQLite: WAL with `synchronous=FULL`, so that an acknowledged commit survives `kill -9`
//! and a power cut; exclusive, so that two servers cannot share it; every row sealed.

mod events;
mod open;

use std::{path::Path, path::PathBuf, time::Duration};

use registry::{Change, Commit, Key, LogId, Object, Revision, Stored};
use rusqlite::{Connection, ErrorCode, Transaction, backup::Backup, params};

use crate::{
    Loaded, Log, MacKey, StoreError, follows,
    seal::{Seal, Sum},
};

/// A log in one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    key: MacKey,
    id: LogId,
    head: Head,
    fenced: bool,
}

/// What the next commit builds on.
#[derive(Clone, Copy, Debug)]
struct Head {
    revision: Revision,
    /// Over all live rows of `objects`.
    sum: Sum,
    /// Of the newest row of `leaves`; each leaf's seal covers the one before it.
    leaf: Seal,
}

impl Log for Sqlite {
    fn id(&self) -> &LogId {
        &self.id
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.unfenced()?;
        let mut objects = Vec::new();
        let mut sum = Sum::default();
        let mut select =
            self.connection.prepare("SELECT key, version, revision, body, mac FROM objects ORDER BY key")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let read = || -> rusqlite::Result<_> {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get::<_, Vec<u8>>(3)?,
                    row.get(4)?,
                ))
            };
            let (key, version, revision, body, mac): (String, i64, i64, Vec<u8>, [u8; 32]) =
                read().map_err(|_| tampered("a row of objects has columns of another kind"))?;
            let seal = self.seal_object(&key, version, revision, &body);
            if seal.0 != mac {
                return Err(tampered(format!("the row objects/{key} does not match its seal")));
            }
            sum = sum.plus(seal);
            objects.push(decode(&key, version, &body)?);
        }
        if sum != self.head.sum {
            return Err(tampered("a row of objects is missing, was added, or is an older one put back"));
        }
        drop(rows);
        drop(select);
        self.check_events()?;
        self.check_leaves()?;
        Ok(Loaded { revision: self.head.revision, objects })
    }

    fn commit(&mut self, group: &[Commit]) -> Result<(), StoreError> {
        self.unfenced()?;
        follows(self.head.revision, group)?;
        match self.commit_group(group) {
            Ok(head) => {
                self.head = head;
                Ok(())
            }
            // Nothing reached the log: SQLite undid it before it wrote a commit record.
            Err(StoreError::Database(error)) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                self.after_full()
            }
            Err(StoreError::Database(error)) => {
                self.fenced = true;
                Err(StoreError::Database(error))
            }
            Err(other) => Err(other),
        }
    }

    fn tail(&mut self, after: Revision) -> Result<Vec<Commit>, StoreError> {
        self.unfenced()?;
        self.read_events(after)
    }

    fn compact(&mut self, upto: Revision) -> Result<(), StoreError> {
        self.unfenced()?;
        // The newest event stays: it carries the sum and the head of the leaves.
        let upto = upto.0.min(self.head.revision.0.saturating_sub(1));
        self.connection.execute("DELETE FROM events WHERE revision <= ?1", [upto as i64])?;
        Ok(())
    }

    fn backup(&mut self, to: &Path) -> Result<(), StoreError> {
        self.unfenced()?;
        open::create_private(to)?;
        let mut copy = Connection::open(to)?;
        let backup = Backup::new(&self.connection, &mut copy)?;
        Ok(backup.run_to_completion(1024, Duration::ZERO, None)?)
    }
}

impl Sqlite {
    fn commit_group(&mut self, group: &[Commit]) -> Result<Head, StoreError> {
        let mut head = self.head;
        let Self { connection, key, .. } = self;
        let transaction = connection.transaction()?;
        for commit in group {
            let revision = commit.revision.0 as i64;
            for change in &commit.changes {
                head.sum = write_change(&transaction, key, revision, change, head.sum)?;
            }
            head.leaf = events::write_leaf(&transaction, key, commit, head.leaf)?;
            head.revision = commit.revision;
            events::write_event(&transaction, key, commit, &head)?;
        }
        transaction.commit()?;
        Ok(head)
    }

    /// After a full disk: undone cleanly, or fenced where that failed too.
    fn after_full(&mut self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() && self.connection.execute_batch("ROLLBACK").is_err() {
            self.fenced = true;
        }
        Err(StoreError::Full)
    }

    fn unfenced(&self) -> Result<(), StoreError> {
        if self.fenced { Err(StoreError::Fenced) } else { Ok(()) }
    }

    fn seal_object(&self, key: &str, version: i64, revision: i64, body: &[u8]) -> Seal {
        seal_object(&self.key, key, version, revision, body)
    }

    /// Lets the database grow to `pages` pages (of 4 KiB) and no further: then the disk counts as full.
    pub fn limit_pages(&mut self, pages: u32) -> Result<(), StoreError> {
        Ok(self.connection.pragma_update(None, "max_page_count", pages)?)
    }

    /// Where the database lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn write_change(
    transaction: &Transaction<'_>,
    mac_key: &MacKey,
    revision: i64,
    change: &Change,
    sum: Sum,
) -> Result<Sum, StoreError> {
    let key = change.key().to_string();
    let before: Option<[u8; 32]> = {
        let mut select = transaction.prepare_cached("SELECT mac FROM objects WHERE key = ?1")?;
        let mut rows = select.query([&key])?;
        rows.next()?.map(|row| row.get(0)).transpose()?
    };
    let sum = before.map_or(sum, |mac| sum.minus(Seal(mac)));
    match change {
        Change::Put { version, object } => {
            let (version, body) = (*version as i64, object.to_json());
            let seal = seal_object(mac_key, &key, version, revision, &body);
            transaction
                .prepare_cached(
                    "INSERT INTO objects (key, version, revision, body, mac) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (key) DO UPDATE SET version = ?2, revision = ?3, body = ?4, mac = ?5",
                )?
                .execute(params![key, version, revision, body, seal.0])?;
            Ok(sum.plus(seal))
        }
        Change::Delete(_) => {
            transaction.prepare_cached("DELETE FROM objects WHERE key = ?1")?.execute([&key])?;
            Ok(sum)
        }
    }
}

fn seal_object(mac_key: &MacKey, key: &str, version: i64, revision: i64, body: &[u8]) -> Seal {
    let columns: [&[u8]; 4] = [key.as_bytes(), &version.to_be_bytes(), &revision.to_be_bytes(), body];
    mac_key.seal("objects", &columns)
}

fn decode(key: &str, version: i64, body: &[u8]) -> Result<Stored, StoreError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        tampered(format!(
            "objects/{key} is sealed but unreadable ({error}); a newer writ may have written it"
        ))
    };
    let parsed: Key = key.parse().map_err(|error: registry::objects::ObjectError| unreadable(&error))?;
    let object = Object::from_json(&parsed, body).map_err(|error| unreadable(&error))?;
    let version = u64::try_from(version).map_err(|error| unreadable(&error))?;
    Ok(Stored { version, object })
}

fn tampered(what: impl Into<String>) -> StoreError {
    StoreError::Tampered { what: what.into() }
}
