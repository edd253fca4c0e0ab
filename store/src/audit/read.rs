//! Reading the audit log while another connection appends to it.

use std::{path::Path, time::Duration};

use audit::{
    Hash,
    tree::{Hashes, Tile},
};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use crate::StoreError;

/// The audit log, for those who read. It sees what was durable when it looks.
#[derive(Debug)]
pub struct AuditReader {
    connection: Connection,
}

impl AuditReader {
    /// Opens the audit log at `path`, which is there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection })
    }

    /// The entries from `from` on, before `to`, with their indices.
    pub fn entries(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT leaf FROM entries WHERE idx >= ?1 AND idx < ?2 ORDER BY idx")?;
        let rows = select.query_map([from as i64, to as i64], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How far a source was merged, as it was said.
    pub fn cursor(&self, source: &str) -> Result<Option<Vec<u8>>, StoreError> {
        super::get(&self.connection, "cursors", source)
    }

    /// What lies sealed beside an entry.
    pub fn sealed(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT payload FROM sealed WHERE idx = ?1")?;
        Ok(select.query_row([index as i64], |row| row.get(0)).optional()?)
    }

    /// The hashes of a tile of a tree of `size` entries.
    pub fn tile(&self, tile: Tile) -> Result<Vec<Hash>, StoreError> {
        if tile.width == 256 {
            return full_tile(&self.connection, tile);
        }
        if tile.level == 0
            && let Some(kept) = self.kept(tile)?
        {
            return Ok(kept);
        }
        let first = tile.index * 256;
        (first..first + u64::from(tile.width)).map(|index| self.perfect(8 * tile.level, index)).collect()
    }

    /// The hashes of entries as they were when these were appended, of a tile that was not full then.
    fn kept(&self, tile: Tile) -> Result<Option<Vec<Hash>>, StoreError> {
        // In one look: meanwhile the tile may become full, and another one the last.
        let look = self.connection.unchecked_transaction()?;
        let entries: i64 =
            look.query_row("SELECT coalesce(max(idx) + 1, 0) FROM entries", [], |row| row.get(0))?;
        let hashes = match entries as u64 / 256 > tile.index {
            true => Some(full_tile(&look, Tile { width: 256, ..tile })?),
            false => last_hashes(&look)?,
        };
        let width = usize::from(tile.width);
        Ok(hashes.and_then(|hashes| hashes.get(..width).map(<[_]>::to_vec)))
    }
}

impl Hashes for AuditReader {
    type Error = StoreError;

    fn perfect(&self, height: u8, index: u64) -> Result<Hash, StoreError> {
        if height == 0 {
            return Ok(Hash::leaf(&leaf(&self.connection, index)?));
        }
        // Of a full tile it is a part; the root of a whole one is that of the tile below.
        let (level, within) = ((height - 1) / 8, (height - 1) % 8 + 1);
        let width = 1_u64 << within;
        let first = index * width;
        let tile = Tile { level, index: first / 256, width: 256 };
        let mut select =
            self.connection.prepare_cached("SELECT hashes FROM tiles WHERE level = ?1 AND idx = ?2")?;
        let bytes: Option<Vec<u8>> =
            select.query_row((tile.level, tile.index as i64), |row| row.get(0)).optional()?;
        match bytes {
            Some(bytes) => {
                let hashes = Tile::read(&bytes).ok_or_else(|| damaged(tile))?;
                let begin = usize::try_from(first % 256).unwrap_or(0);
                let part = hashes.get(begin..begin + usize::try_from(width).unwrap_or(256));
                Ok(root_of(part.ok_or_else(|| damaged(tile))?))
            }
            None => {
                let below = [self.perfect(height - 1, 2 * index)?, self.perfect(height - 1, 2 * index + 1)?];
                Ok(root_of(&below))
            }
        }
    }
}

pub(super) fn leaf(connection: &Connection, index: u64) -> Result<Vec<u8>, StoreError> {
    let mut select = connection.prepare_cached("SELECT leaf FROM entries WHERE idx = ?1")?;
    let leaf = select.query_row([index as i64], |row| row.get(0)).optional()?;
    leaf.ok_or_else(|| StoreError::Tampered { what: format!("entry {index} of the audit log is missing") })
}

/// The hashes of the entries behind the last full tile; `None` in a log of a version that did not keep them.
pub(super) fn last_hashes(connection: &Connection) -> Result<Option<Vec<Hash>>, StoreError> {
    let what = || "the hashes of the newest entries of the audit log are altered".to_owned();
    let kept = super::get(connection, "meta", super::LAST_TILE)?;
    kept.map(|bytes| Tile::read(&bytes).ok_or_else(|| StoreError::Tampered { what: what() })).transpose()
}

pub(super) fn full_tile(connection: &Connection, tile: Tile) -> Result<Vec<Hash>, StoreError> {
    let mut select = connection.prepare_cached("SELECT hashes FROM tiles WHERE level = ?1 AND idx = ?2")?;
    let bytes: Option<Vec<u8>> =
        select.query_row((tile.level, tile.index as i64), |row| row.get(0)).optional()?;
    bytes
        .and_then(|bytes| Tile::read(&bytes))
        .filter(|hashes| hashes.len() == 256)
        .ok_or_else(|| damaged(tile))
}

/// The root over hashes of which there is a power of two.
pub(super) fn root_of(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::empty(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            Hash::node(root_of(left), root_of(right))
        }
    }
}

fn damaged(tile: Tile) -> StoreError {
    StoreError::Tampered { what: format!("{} of the audit log is missing or altered", tile.path()) }
}
