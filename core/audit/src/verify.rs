//! A whole log, recomputed from its files: every entry, every tile, the checkpoint, and the chains of the
//! nodes in it.

use std::collections::HashMap;

use serde::Deserialize;

use crate::{
    Hash,
    tree::{Checkpoint, Edge, NoteError, Tile, VerifierKey, bundle},
};

/// The files of a log by their paths below its prefix.
pub trait Files {
    /// What can go wrong when one is read.
    type Error;
    /// The file, if it is there.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// What a log was found to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// What it has signed.
    pub checkpoint: Checkpoint,
    /// The nodes whose chains are in it, and how many records each has.
    pub nodes: Vec<(String, u64)>,
    /// How many alarms are on record in it.
    pub alarms: u64,
}

/// What is wrong with a log, with the first place where it shows.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault<E> {
    /// A file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        error: E,
    },
    /// A file is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// The checkpoint is not the log's.
    #[error("the checkpoint does not hold: {0}")]
    Checkpoint(NoteError),
    /// A file has another form or another length than it should have.
    #[error("entry {index} is missing or cut: {path} has not {width} of them")]
    Cut {
        /// The first one that is not there.
        index: u64,
        /// The file.
        path: String,
        /// How many should be in it.
        width: u16,
    },
    /// An entry is not the one that was signed for.
    #[error("entry {0} was altered, moved or put in: it does not have the hash that its tile has")]
    Entry(u64),
    /// A tile is not the one that was signed for.
    #[error("{path} was altered, and with it what is proved of entry {index} and those behind it")]
    Tile {
        /// The first entry below it.
        index: u64,
        /// The tile.
        path: String,
    },
    /// All of it fits together, and is not what was signed.
    #[error(
        "the entries are not those that were signed for: their root is {root}, and the checkpoint's is {signed}"
    )]
    Root {
        /// What was computed.
        root: Hash,
        /// What was signed.
        signed: Hash,
    },
    /// A node's record does not follow the one before it.
    #[error("entry {index}: record {seq} of {node} does not follow the one before it")]
    Chain {
        /// The entry.
        index: u64,
        /// Whose.
        node: String,
        /// Its number.
        seq: u64,
    },
}

/// Verifies a whole log. `progress` hears how many entries are done.
pub fn verify<F: Files>(
    files: &F,
    key: &VerifierKey,
    mut progress: impl FnMut(u64),
) -> Result<Verified, Fault<F::Error>> {
    let note = read(files, "checkpoint")?;
    let note = String::from_utf8(note).map_err(|_| Fault::Checkpoint(NoteError::Form("it is no text")))?;
    let checkpoint = Checkpoint::open(&note, key).map_err(Fault::Checkpoint)?;
    let (mut edge, mut chains) = (Edge::default(), Chains::default());
    for tile in Tile::of_level(0, checkpoint.size) {
        let hashes = read_tile(files, tile)?;
        let path = tile.bundle_path();
        let content = read(files, &path)?;
        let first = tile.index * 256;
        let cut = |at: usize| Fault::Cut { index: first + at as u64, path: path.clone(), width: tile.width };
        let entries = bundle::entries(&content).map_err(|bad| cut(bad.0))?;
        for (at, hash) in hashes.iter().enumerate() {
            let (index, entry) = (first + at as u64, entries.get(at).ok_or_else(|| cut(at))?);
            if Hash::leaf(entry) != *hash {
                return Err(Fault::Entry(index));
            }
            chains.follow(index, entry, *hash)?;
            for full in edge.push(*hash) {
                // Of level 0 it is what was just read; above, each file must say what follows from those below.
                if full.tile.level > 0 && read_tile(files, full.tile)? != full.hashes {
                    let index = full.tile.index << (8 * (u32::from(full.tile.level) + 1));
                    return Err(Fault::Tile { index, path: full.tile.path() });
                }
            }
        }
        if entries.len() > hashes.len() {
            return Err(Fault::Entry(first + hashes.len() as u64));
        }
        progress(edge.size());
    }
    for level in 1..Tile::levels(checkpoint.size) {
        for tile in Tile::of_level(level, checkpoint.size).filter(|tile| tile.width < 256) {
            if read_tile(files, tile)? != edge.partial(level) {
                let index = tile.index << (8 * (u32::from(level) + 1));
                return Err(Fault::Tile { index, path: tile.path() });
            }
        }
    }
    match edge.root() {
        root if root == checkpoint.root => Ok(chains.into_verified(checkpoint)),
        root => Err(Fault::Root { root, signed: checkpoint.root }),
    }
}

fn read<F: Files>(files: &F, path: &str) -> Result<Vec<u8>, Fault<F::Error>> {
    let read = files.read(path).map_err(|error| Fault::Unreadable { path: path.to_owned(), error })?;
    read.ok_or_else(|| Fault::Missing(path.to_owned()))
}

fn read_tile<F: Files>(files: &F, tile: Tile) -> Result<Vec<Hash>, Fault<F::Error>> {
    let path = tile.path();
    let hashes = Tile::read(&read(files, &path)?).filter(|hashes| hashes.len() == usize::from(tile.width));
    let index = tile.index << (8 * (u32::from(tile.level) + 1));
    hashes.ok_or(Fault::Cut { index, path, width: tile.width })
}

/// The chains of the nodes, as far as they have come.
#[derive(Default)]
struct Chains {
    nodes: HashMap<String, Node>,
    alarms: u64,
}

#[derive(Default)]
struct Node {
    seq: u64,
    hash: Hash,
    records: u64,
    /// From this record on it may go on after a gap: an alarm on record says so.
    gap: Option<u64>,
}

/// What of an entry its place in a chain says.
#[derive(Deserialize)]
struct Seen<'a> {
    #[serde(default)]
    kind: Option<&'a str>,
    seq: u64,
    #[serde(borrow, default)]
    node: Option<&'a str>,
    #[serde(default)]
    prev_hash: Option<&'a str>,
    #[serde(default)]
    spiffe_id: Option<&'a str>,
    #[serde(default)]
    task_seq: Option<u64>,
}

impl Chains {
    fn follow<E>(&mut self, index: u64, entry: &[u8], hash: Hash) -> Result<(), Fault<E>> {
        let Ok(seen) = serde_json::from_slice::<Seen<'_>>(entry) else { return Ok(()) };
        if seen.node.is_none() && seen.kind == Some("audit.alarm") {
            self.alarms += 1;
            if let (Some(node), next) = (seen.spiffe_id, seen.task_seq) {
                self.node(node).gap = next;
            }
            return Ok(());
        }
        let (Some(name), Some(before)) = (seen.node, seen.prev_hash) else { return Ok(()) };
        let node = self.node(name);
        let before = Hash::from_hex(before);
        let begins = seen.seq == 1 && before == Some(Hash::default());
        let goes_on = seen.seq == node.seq + 1 && before == Some(node.hash);
        if !begins && !goes_on && node.gap != Some(seen.seq) {
            return Err(Fault::Chain { index, node: name.to_owned(), seq: seen.seq });
        }
        *node = Node { seq: seen.seq, hash, records: node.records + 1, gap: None };
        Ok(())
    }

    fn node(&mut self, name: &str) -> &mut Node {
        if !self.nodes.contains_key(name) {
            self.nodes.insert(name.to_owned(), Node::default());
        }
        self.nodes.entry(name.to_owned()).or_default()
    }

    fn into_verified(self, checkpoint: Checkpoint) -> Verified {
        let mut nodes: Vec<_> = self.nodes.into_iter().map(|(name, node)| (name, node.records)).collect();
        nodes.retain(|(_, records)| *records > 0);
        nodes.sort();
        Verified { checkpoint, nodes, alarms: self.alarms }
    }
}

#[cfg(test)]
mod tests;
