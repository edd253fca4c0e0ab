//! A node's chain: each record names the one before it by its hash, so none can be changed, taken out or
//! moved without every later one contradicting that.

use serde::Deserialize;

use crate::{Hash, Record, RecordError};

/// The end of a node's chain, where the next record goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chain {
    node: Option<String>,
    last: u64,
    head: Hash,
}

/// A record in its place, not yet durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its place.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Its bytes.
    pub leaf: Vec<u8>,
}

/// A record that survives a crash: what a permit is made from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recorded {
    seq: u64,
    hash: Hash,
}

/// What of a record its place in a chain says; the rest is not looked at.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Place {
    /// Its number.
    pub seq: u64,
    /// Whose chain; none in what a server writes itself.
    #[serde(default)]
    pub node: Option<String>,
    /// The record before.
    #[serde(default)]
    pub prev_hash: Option<Hash>,
}

impl Chain {
    /// A chain without records.
    pub fn new(node: Option<String>) -> Self {
        Self { node, last: 0, head: Hash::default() }
    }

    /// The chain whose last record is this one.
    pub fn after(node: Option<String>, last: u64, head: Hash) -> Self {
        Self { node, last, head }
    }

    /// The number of the last record; 0 where there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The hash of the last record; zeros where there is none.
    pub fn head(&self) -> Hash {
        self.head
    }

    /// What the next record would be.
    pub fn link(&self, record: &Record) -> Result<Link, RecordError> {
        let seq = self.last + 1;
        let leaf = record.leaf(seq, self.node.as_deref(), Some(self.head))?;
        Ok(Link { seq, hash: Hash::leaf(&leaf), leaf })
    }

    /// Takes it as the last one.
    pub fn take(&mut self, link: &Link) {
        // INVARIANT: whoever made the link has let nothing come in between.
        debug_assert_eq!(link.seq, self.last + 1);
        (self.last, self.head) = (link.seq, link.hash);
    }
}

impl Link {
    /// What it is once it is durable. Only whoever has just synced it may say so.
    pub fn synced(&self) -> Recorded {
        Recorded { seq: self.seq, hash: self.hash }
    }
}

impl Recorded {
    /// Its place in its node's chain.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Its hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }
}

impl Place {
    /// Reads the place of a record, or of anything that has one.
    pub fn of(leaf: &[u8]) -> Option<Self> {
        serde_json::from_slice(leaf).ok()
    }
}
