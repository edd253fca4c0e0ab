//! A log in memory: what the others must behave like, without a disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use registry::{Change, Commit, Key, LogId, Revision, Stored};

use crate::{Judged, Loaded, Log, MacKey, Origin, StoreError, Witness, follows, seal::Seal};

/// A log that ends with its process.
#[derive(Debug)]
pub struct Memory {
    id: LogId,
    revision: Revision,
    compacted: Revision,
    objects: BTreeMap<Key, Stored>,
    events: Vec<Commit>,
    origin: Option<Origin>,
    key: MacKey,
    /// One for each revision, from 0.
    leaves: Vec<Seal>,
    records: Vec<Vec<u8>>,
}

impl Memory {
    /// An empty log of this name.
    pub fn new(id: LogId) -> Self {
        Self {
            id,
            revision: Revision::default(),
            compacted: Revision::default(),
            objects: BTreeMap::new(),
            events: Vec::new(),
            origin: None,
            key: MacKey::new([0; 32]),
            leaves: vec![Seal([0; 32])],
            records: Vec::new(),
        }
    }
}

impl Log for Memory {
    fn id(&self) -> &LogId {
        &self.id
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(Loaded { revision: self.revision, objects: self.objects.values().cloned().collect() })
    }

    fn commit(&mut self, group: &[Commit]) -> Result<(), StoreError> {
        follows(self.revision, group)?;
        for commit in group {
            for change in &commit.changes {
                match change {
                    Change::Put { version, object } => {
                        let stored = Stored { version: *version, object: object.clone() };
                        self.objects.insert(object.key(), stored);
                    }
                    Change::Delete(key) => {
                        self.objects.remove(key);
                    }
                }
            }
            self.revision = commit.revision;
            self.leaves.push(self.key.seal("leaves", &[&commit.leaf, &self.newest_leaf().0]));
            self.records.push(commit.leaf.clone());
            self.events.push(commit.clone());
        }
        Ok(())
    }

    fn tail(&mut self, after: Revision) -> Result<Vec<Commit>, StoreError> {
        if after < self.compacted {
            return Err(StoreError::Compacted { upto: self.compacted });
        }
        Ok(self.events.iter().filter(|commit| commit.revision > after).cloned().collect())
    }

    fn leaves(&mut self, after: Revision, most: usize) -> Result<Vec<(Revision, Vec<u8>)>, StoreError> {
        let leaves = (1..).map(Revision).zip(self.records.iter().cloned());
        Ok(leaves.skip_while(|(revision, _)| *revision <= after).take(most).collect())
    }

    fn compact(&mut self, upto: Revision) -> Result<(), StoreError> {
        let upto = upto.min(self.revision);
        self.events.retain(|commit| commit.revision > upto);
        self.compacted = self.compacted.max(upto);
        Ok(())
    }

    fn backup(&mut self, to: &Path) -> Result<(), StoreError> {
        Err(StoreError::Io {
            action: "copy a log in memory to",
            path: PathBuf::from(to),
            source: std::io::ErrorKind::Unsupported.into(),
        })
    }

    fn witness(&self) -> Witness {
        Witness::new(&self.key, &self.id, self.revision, self.newest_leaf())
    }

    fn judge(&mut self, kept: &Witness) -> Result<Judged, StoreError> {
        let leaf = |Revision(revision): Revision| Ok(self.leaves[revision as usize]);
        kept.judge(&self.key, (&self.id, self.revision), self.origin.as_ref(), leaf)
    }

    fn begin_anew(&mut self, first: &Commit) -> Result<(), StoreError> {
        let origin = Origin { log: self.id.clone(), revision: self.revision };
        self.commit(std::slice::from_ref(first))?;
        self.id = LogId(format!("{}+", self.id.0));
        self.origin = Some(origin);
        Ok(())
    }

    fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }
}

impl Memory {
    fn newest_leaf(&self) -> Seal {
        self.leaves.last().copied().unwrap_or(Seal([0; 32]))
    }
}
