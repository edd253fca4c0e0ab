//! Events and audit leaves: what happened, one row each for every revision.

use registry::{Author, Change, Commit, Key, Object, Revision};
use rusqlite::{Connection, Row, Transaction, params};
use serde_json::Value;

use super::{Head, Sqlite, tampered};
use crate::{MacKey, StoreError, seal::Seal};

const COLUMNS: &str = "revision, at, author, changes, sum, leaf_mac, mac";

/// A row of `events` whose seal holds.
pub(super) struct EventRow {
    pub(super) revision: Revision,
    pub(super) sum: Seal,
    pub(super) leaf: Seal,
    at: i64,
    author: Vec<u8>,
    changes: Vec<u8>,
}

pub(super) fn write_event(
    transaction: &Transaction<'_>,
    key: &MacKey,
    commit: &Commit,
    head: &Head,
) -> Result<(), StoreError> {
    let (revision, at) = (commit.revision.0 as i64, commit.at.unix_millis());
    let author = serde_json::to_vec(&commit.author).expect("an author is plain JSON");
    let changes = encode(&commit.changes);
    let seal = seal_event(key, revision, at, &author, &changes, head.sum, head.leaf);
    transaction
        .prepare_cached(
            "INSERT INTO events (revision, at, author, changes, sum, leaf_mac, mac)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![revision, at, author, changes, head.sum.0, head.leaf.0, seal.0])?;
    Ok(())
}

/// Each leaf's seal covers the seal before it, so none can be taken out or moved.
pub(super) fn write_leaf(
    transaction: &Transaction<'_>,
    key: &MacKey,
    commit: &Commit,
    before: Seal,
) -> Result<Seal, StoreError> {
    let revision = commit.revision.0 as i64;
    let seal = seal_leaf(key, revision, &commit.leaf, before);
    transaction
        .prepare_cached("INSERT INTO leaves (revision, leaf, mac) VALUES (?1, ?2, ?3)")?
        .execute(params![revision, commit.leaf, seal.0])?;
    Ok(seal)
}

pub(super) fn read_row(connection: &Connection, key: &MacKey, revision: i64) -> Result<EventRow, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM events WHERE revision = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([revision])?;
    let row = rows.next()?.ok_or_else(|| tampered(format!("the row events/{revision} is missing")))?;
    checked(row, key)
}

impl Sqlite {
    /// Every event that is kept matches its seal, and none is missing between two.
    pub(super) fn check_events(&self) -> Result<(), StoreError> {
        let mut select =
            self.connection.prepare(&format!("SELECT {COLUMNS} FROM events ORDER BY revision"))?;
        let mut rows = select.query([])?;
        let mut last: Option<Revision> = None;
        while let Some(row) = rows.next()? {
            let event = checked(row, &self.key)?;
            if last.is_some_and(|last| event.revision != last.next()) {
                return Err(tampered(format!("a row of events before {} is missing", event.revision.0)));
            }
            last = Some(event.revision);
        }
        match last.unwrap_or_default() == self.head.revision {
            true => Ok(()),
            false => Err(tampered("the newest event changed while the log was open")),
        }
    }

    /// The leaves after `after`, so many at most.
    pub(super) fn read_leaves(
        &self,
        after: Revision,
        most: usize,
    ) -> Result<Vec<(Revision, Vec<u8>)>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT revision, leaf FROM leaves WHERE revision > ?1 ORDER BY revision LIMIT ?2",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = select.query_map([after.0 as i64, most], |row| {
            Ok((Revision(row.get::<_, i64>(0)? as u64), row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Every leaf matches its seal, from the first to the one that the newest event names.
    pub(super) fn check_leaves(&self) -> Result<(), StoreError> {
        let mut select =
            self.connection.prepare("SELECT revision, leaf, mac FROM leaves ORDER BY revision")?;
        let mut rows = select.query([])?;
        let (mut before, mut expected) = (Seal([0; 32]), Revision::default());
        while let Some(row) = rows.next()? {
            let read = || -> rusqlite::Result<(i64, Vec<u8>, [u8; 32])> {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            };
            let (revision, leaf, mac) =
                read().map_err(|_| tampered("a row of leaves has columns of another kind"))?;
            expected = expected.next();
            let seal = seal_leaf(&self.key, revision, &leaf, before);
            if revision != expected.0 as i64 || seal.0 != mac {
                return Err(tampered(format!(
                    "the row leaves/{revision} does not match its seal or its place"
                )));
            }
            before = seal;
        }
        match before == self.head.leaf && expected == self.head.revision {
            true => Ok(()),
            false => Err(tampered("the newest rows of leaves are missing")),
        }
    }

    /// The seal of one leaf; zeros before the first.
    pub(super) fn leaf_seal(&self, revision: Revision) -> Result<Seal, StoreError> {
        if revision == Revision(0) {
            return Ok(Seal([0; 32]));
        }
        let mut select = self.connection.prepare_cached("SELECT mac FROM leaves WHERE revision = ?1")?;
        let mut rows = select.query([revision.0 as i64])?;
        let row =
            rows.next()?.ok_or_else(|| tampered(format!("the row leaves/{} is missing", revision.0)))?;
        Ok(Seal(row.get(0)?))
    }

    /// The commits after `after`, each event and each leaf checked.
    pub(super) fn read_events(&self, after: Revision) -> Result<Vec<Commit>, StoreError> {
        let sql = "SELECT e.revision, at, author, changes, sum, leaf_mac, e.mac, this.leaf, before.mac
                   FROM events e LEFT JOIN leaves this ON this.revision = e.revision
                                 LEFT JOIN leaves before ON before.revision = e.revision - 1
                   WHERE e.revision > ?1 ORDER BY e.revision";
        let mut select = self.connection.prepare_cached(sql)?;
        let mut rows = select.query([after.0 as i64])?;
        let mut commits = Vec::new();
        let mut last = after;
        while let Some(row) = rows.next()? {
            let event = checked(row, &self.key)?;
            let revision = event.revision;
            if revision != last.next() && last == after {
                return Err(StoreError::Compacted { upto: Revision(revision.0 - 1) });
            } else if revision != last.next() {
                return Err(tampered(format!("a row of events before {} is missing", revision.0)));
            }
            let altered = || tampered(format!("the row leaves/{} does not match its seal", revision.0));
            let (leaf, before): (Vec<u8>, Option<[u8; 32]>) =
                row.get(7).and_then(|leaf| Ok((leaf, row.get(8)?))).map_err(|_| altered())?;
            if seal_leaf(&self.key, revision.0 as i64, &leaf, Seal(before.unwrap_or_default())) != event.leaf
            {
                return Err(altered());
            }
            last = revision;
            commits.push(event.into_commit(leaf)?);
        }
        match last < self.head.revision {
            true => Err(tampered("the newest events are missing")),
            false => Ok(commits),
        }
    }
}

impl EventRow {
    fn into_commit(self, leaf: Vec<u8>) -> Result<Commit, StoreError> {
        let revision = self.revision;
        let unreadable = || tampered(format!("the row events/{} is sealed but unreadable", revision.0));
        let author: Author = serde_json::from_slice(&self.author).map_err(|_| unreadable())?;
        let items: Vec<Value> = serde_json::from_slice(&self.changes).map_err(|_| unreadable())?;
        let changes =
            items.iter().map(|item| decode(item).ok_or_else(unreadable)).collect::<Result<_, _>>()?;
        let at = spiffe::Timestamp::from_unix_millis(self.at);
        Ok(Commit { revision, at, author, changes, leaf })
    }
}

fn checked(row: &Row<'_>, key: &MacKey) -> Result<EventRow, StoreError> {
    let read = || -> rusqlite::Result<_> {
        let (sum, leaf, mac): ([u8; 32], [u8; 32], [u8; 32]) = (row.get(4)?, row.get(5)?, row.get(6)?);
        let revision: i64 = row.get(0)?;
        Ok((revision, row.get(1)?, row.get::<_, Vec<u8>>(2)?, row.get::<_, Vec<u8>>(3)?, sum, leaf, mac))
    };
    let (revision, at, author, changes, sum, leaf, mac) =
        read().map_err(|_| tampered("a row of events has columns of another kind"))?;
    let (sum, leaf) = (Seal(sum), Seal(leaf));
    if seal_event(key, revision, at, &author, &changes, sum, leaf).0 != mac {
        return Err(tampered(format!("the row events/{revision} does not match its seal")));
    }
    let revision = u64::try_from(revision).map_err(|_| tampered("an event has a revision below zero"))?;
    Ok(EventRow { revision: Revision(revision), sum, leaf, at, author, changes })
}

/// A leaf's seal covers the seal of the leaf before it; the first one has zeros there.
fn seal_leaf(key: &MacKey, revision: i64, leaf: &[u8], before: Seal) -> Seal {
    key.seal("leaves", &[&revision.to_be_bytes(), leaf, &before.0])
}

fn seal_event(
    key: &MacKey,
    revision: i64,
    at: i64,
    author: &[u8],
    changes: &[u8],
    sum: Seal,
    leaf: Seal,
) -> Seal {
    let (revision, at) = (revision.to_be_bytes(), at.to_be_bytes());
    key.seal("events", &[&revision, &at, author, changes, &sum.0, &leaf.0])
}

/// `[{"body":…,"key":"entry/…","version":1},{"key":"entry/…"}]`; bodies as they are, not parsed again.
fn encode(changes: &[Change]) -> Vec<u8> {
    let mut out = vec![b'['];
    for change in changes {
        if out.len() > 1 {
            out.push(b',');
        }
        let key = Value::String(change.key().to_string()).to_string();
        match change {
            Change::Put { version, object } => {
                out.extend_from_slice(b"{\"body\":");
                out.extend_from_slice(&object.to_json());
                out.extend_from_slice(format!(",\"key\":{key},\"version\":{version}}}").as_bytes());
            }
            Change::Delete(_) => out.extend_from_slice(format!("{{\"key\":{key}}}").as_bytes()),
        }
    }
    out.push(b']');
    out
}

fn decode(item: &Value) -> Option<Change> {
    let key: Key = item.get("key")?.as_str()?.parse().ok()?;
    match item.get("body") {
        None => Some(Change::Delete(key)),
        Some(body) => {
            let version = item.get("version")?.as_u64()?;
            let object = Object::from_json(&key, body.to_string().as_bytes()).ok()?;
            Some(Change::Put { version, object })
        }
    }
}
