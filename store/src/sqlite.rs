//! The log in SQLite: WAL with `synchronous=FULL`, so that an acknowledged commit survives `kill -9`
//! and a power cut; exclusive, so that two servers cannot share it; every row sealed.

mod events;
mod mark;
mod open;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use mark::Mark;
pub(crate) use open::create_private;
use registry::{Change, Commit, Key, LogId, Object, Revision, Stored};
use rusqlite::{Connection, Transaction, backup::Backup, params};

use crate::{
    Judged, Loaded, Log, MacKey, Origin, StoreError, Witness, follows,
    seal::{Seal, Sum},
};

/// A log in one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    key: MacKey,
    id: LogId,
    origin: Option<Origin>,
    mark: Mark,
    head: Head,
    /// Over all live rows of `objects`; known once they have been read.
    sum: Option<Sum>,
    /// About how many pages were written since the write-ahead log was last carried over.
    uncarried: usize,
    fenced: bool,
}

/// The newest event, on which the next commit builds.
#[derive(Clone, Copy, Debug)]
struct Head {
    revision: Revision,
    /// Of the sum over all live rows.
    sum: Seal,
    /// Of the newest row of `leaves`; each leaf's seal covers the one before it.
    leaf: Seal,
}

/// The write-ahead log is carried over into the database about every so many pages (32 MiB): more often,
/// large batches would spend their time on it.
const CARRY_OVER_PAGES: usize = 8192;
/// About how many pages a group writes besides one for each change, since keys lie all over the tree.
const GROUP_PAGES: usize = 4;

impl Log for Sqlite {
    fn id(&self) -> &LogId {
        &self.id
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.unfenced()?;
        let (objects, sum) = self.read_objects()?;
        if self.key.seal_sum(self.head.revision.0 as i64, sum) != self.head.sum {
            return Err(tampered("a row of objects is missing, was added, or is an older one put back"));
        }
        self.check_events()?;
        self.check_leaves()?;
        self.sum = Some(sum);
        Ok(Loaded { revision: self.head.revision, objects })
    }

    fn commit(&mut self, group: &[Commit]) -> Result<(), StoreError> {
        self.unfenced()?;
        follows(self.head.revision, group)?;
        let sum = self.known_sum()?;
        self.commit_on(sum, group, None)
    }

    fn tail(&mut self, after: Revision) -> Result<Vec<Commit>, StoreError> {
        self.unfenced()?;
        self.read_events(after)
    }

    fn leaves(&mut self, after: Revision, most: usize) -> Result<Vec<(Revision, Vec<u8>)>, StoreError> {
        self.unfenced()?;
        self.read_leaves(after, most)
    }

    fn compact(&mut self, upto: Revision) -> Result<(), StoreError> {
        self.unfenced()?;
        // The newest event stays: it carries the sum and the head of the leaves.
        let upto = upto.0.min(self.head.revision.0.saturating_sub(1));
        match self.connection.execute("DELETE FROM events WHERE revision <= ?1", [upto as i64]) {
            Ok(_) => Ok(()),
            Err(error) => match StoreError::from(error) {
                StoreError::Full => self.after_full(),
                other => {
                    self.fenced = true;
                    Err(other)
                }
            },
        }
    }

    fn backup(&mut self, to: &Path) -> Result<(), StoreError> {
        self.unfenced()?;
        open::create_private(to)?;
        self.copy_to(to).inspect_err(|_| drop(fs::remove_file(to))) // half a backup is none
    }

    fn witness(&self) -> Witness {
        Witness::new(&self.key, &self.id, self.head.revision, self.head.leaf)
    }

    fn judge(&mut self, kept: &Witness) -> Result<Judged, StoreError> {
        self.unfenced()?;
        let leaf = |revision| self.leaf_seal(revision);
        let judged = kept.judge(&self.key, (&self.id, self.head.revision), self.origin.as_ref(), leaf);
        if let Err(StoreError::RolledBack { .. }) = &judged {
            self.fenced = true;
            self.mark.write(kept)?;
        }
        judged
    }

    fn begin_anew(&mut self, first: &Commit) -> Result<(), StoreError> {
        self.unfenced()?;
        let first = std::slice::from_ref(first);
        follows(self.head.revision, first)?;
        let sum = self.known_sum()?;
        let origin = Origin { log: self.id.clone(), revision: self.head.revision };
        self.commit_on(sum, first, Some((open::fresh_id()?, origin)))
    }

    fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }
}

impl Sqlite {
    /// Every object, each row checked, and the sum over them.
    fn read_objects(&self) -> Result<(Vec<Stored>, Sum), StoreError> {
        let (mut objects, mut sum) = (Vec::new(), Sum::default());
        let mut select = self.connection.prepare("SELECT key, version, revision, body, mac FROM objects")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let read = || -> rusqlite::Result<_> {
                let (version, revision): (i64, i64) = (row.get(1)?, row.get(2)?);
                Ok((row.get::<_, String>(0)?, version, revision, row.get::<_, Vec<u8>>(3)?, row.get(4)?))
            };
            let (key, version, revision, body, mac): (_, _, _, _, [u8; 32]) =
                read().map_err(|_| tampered("a row of objects has columns of another kind"))?;
            let seal = seal_object(&self.key, &key, version, revision, &body);
            if seal.0 != mac {
                return Err(tampered(format!("the row objects/{key} does not match its seal")));
            }
            sum = sum.plus(self.key.weight(seal));
            objects.push(decode(&key, version, &body)?);
        }
        Ok((objects, sum))
    }

    fn known_sum(&mut self) -> Result<Sum, StoreError> {
        match self.sum {
            Some(sum) => Ok(sum),
            None => Ok(self.load().map(|_| self.sum)?.unwrap_or_default()),
        }
    }

    /// Makes a group durable on top of `sum`, and with it a new identity of the log where there is one.
    fn commit_on(
        &mut self,
        sum: Sum,
        group: &[Commit],
        anew: Option<(LogId, Origin)>,
    ) -> Result<(), StoreError> {
        match self.commit_group(group, sum, anew.as_ref()) {
            Ok((head, sum)) => {
                (self.head, self.sum) = (head, Some(sum));
                if let Some((id, origin)) = anew {
                    (self.id, self.origin) = (id, Some(origin));
                }
                self.uncarried +=
                    GROUP_PAGES + group.iter().map(|commit| commit.changes.len()).sum::<usize>();
                self.carry_over();
                self.note();
                Ok(())
            }
            Err(StoreError::Full) => self.after_full(),
            Err(error) => {
                self.fenced = true;
                Err(error)
            }
        }
    }

    fn commit_group(
        &mut self,
        group: &[Commit],
        mut sum: Sum,
        anew: Option<&(LogId, Origin)>,
    ) -> Result<(Head, Sum), StoreError> {
        let mut head = self.head;
        let Self { connection, key, .. } = self;
        let transaction = connection.transaction()?;
        if let Some((id, origin)) = anew {
            open::rename(&transaction, key, id, origin)?;
        }
        for commit in group {
            let revision = commit.revision.0 as i64;
            for change in &commit.changes {
                sum = write_change(&transaction, key, revision, change, sum)?;
            }
            head = Head {
                revision: commit.revision,
                sum: key.seal_sum(revision, sum),
                leaf: events::write_leaf(&transaction, key, commit, head.leaf)?,
            };
            events::write_event(&transaction, key, commit, &head)?;
        }
        transaction.commit()?;
        Ok((head, sum))
    }

    /// Carries the write-ahead log over into the database from time to time. SQLite would do that by
    /// itself but keep its failures silent. What was committed is durable either way, so a failed
    /// write here fences the log for whatever comes next; a full disk only lets it wait.
    fn carry_over(&mut self) {
        if self.uncarried < CARRY_OVER_PAGES {
            return;
        }
        let carried = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        match carried.map_err(StoreError::from) {
            Ok(()) => self.uncarried = 0,
            Err(StoreError::Full) => {}
            Err(_) => self.fenced = true,
        }
    }

    /// Notes the newest witness beside the database. The commits that it is about are durable either
    /// way, so a failed write fences the log for whatever comes next; a full disk only lets it wait.
    fn note(&mut self) {
        match self.mark.write(&self.witness()) {
            Ok(()) | Err(StoreError::Full) => {}
            Err(_) => self.fenced = true,
        }
    }

    fn copy_to(&self, to: &Path) -> Result<(), StoreError> {
        let mut copy = Connection::open(to)?;
        copy.pragma_update(None, "synchronous", "OFF")?; // whoever keeps it makes it durable
        Backup::new(&self.connection, &mut copy)?.run_to_completion(1024, Duration::ZERO, None)?;
        Ok(copy.close().map_err(|(_, error)| error)?)
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
    let sum = before.map_or(sum, |mac| sum.minus(mac_key.weight(Seal(mac))));
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
            Ok(sum.plus(mac_key.weight(seal)))
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
