//! Witnesses: what others keep of a log, so that an older copy of it can be told from the newest.
//!
//! A log cannot know that it has been put back: everything in it fits. So after each commit it gives out
//! a witness: its newest revision and the seal of the newest audit leaf, which covers all leaves before
//! it, under a MAC. Whoever shows it later proves that this revision was once acknowledged; nobody
//! without the key can make one, so nobody can stop a server with an invented one.

use registry::{LogId, Revision};

use crate::{MacKey, StoreError, seal::Seal};

/// Proof that a log had once reached a revision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Witness {
    /// The log.
    pub log: LogId,
    /// Its newest revision then.
    pub revision: Revision,
    pub(crate) leaf: Seal,
    seal: Seal,
}

/// From where a log goes on that began as a copy of another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The other log.
    pub log: LogId,
    /// Its last revision that is in this one.
    pub revision: Revision,
}

/// What a witness shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Judged {
    /// It is part of this log.
    Known,
    /// The log from which this one goes on had reached this revision, and what came after
    /// [`Origin::revision`] is lost.
    Lost(Revision),
    /// It is another log's, or nobody's.
    Nothing,
}

const PROOF: usize = 64;

impl Witness {
    pub(crate) fn new(key: &MacKey, log: &LogId, revision: Revision, leaf: Seal) -> Self {
        Self { log: log.clone(), revision, leaf, seal: seal(key, log, revision, leaf) }
    }

    /// Of a witness that came back; a proof of another length is none.
    pub fn from_parts(log: LogId, revision: Revision, proof: &[u8]) -> Option<Self> {
        let proof: &[u8; PROOF] = proof.try_into().ok()?;
        let half = |from: usize| -> Option<Seal> { Some(Seal(proof[from..from + 32].try_into().ok()?)) };
        Some(Self { log, revision, leaf: half(0)?, seal: half(32)? })
    }

    /// What proves it; opaque to whoever keeps it.
    pub fn proof(&self) -> [u8; PROOF] {
        let mut proof = [0; PROOF];
        proof[..32].copy_from_slice(&self.leaf.0);
        proof[32..].copy_from_slice(&self.seal.0);
        proof
    }

    /// Whether the log of this key has given it out.
    pub(crate) fn is_genuine(&self, key: &MacKey) -> bool {
        let expected = seal(key, &self.log, self.revision, self.leaf);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected.0, &self.seal.0).is_ok()
    }

    /// What it shows to the log `own` that is at `at` and goes on from `origin`. `leaf` finds the seal of
    /// the leaf of a revision that is not beyond `at`.
    pub(crate) fn judge(
        &self,
        key: &MacKey,
        (own, at): (&LogId, Revision),
        origin: Option<&Origin>,
        leaf: impl Fn(Revision) -> Result<Seal, StoreError>,
    ) -> Result<Judged, StoreError> {
        if !self.is_genuine(key) {
            return Ok(Judged::Nothing);
        }
        if self.log == *own {
            return match self.revision <= at && leaf(self.revision)? == self.leaf {
                true => Ok(Judged::Known),
                false => Err(StoreError::RolledBack { at, seen: self.revision }),
            };
        }
        match origin.filter(|origin| origin.log == self.log) {
            Some(origin) if self.revision > origin.revision => Ok(Judged::Lost(self.revision)),
            Some(_) => Ok(Judged::Known),
            None => Ok(Judged::Nothing),
        }
    }
}

fn seal(key: &MacKey, log: &LogId, revision: Revision, leaf: Seal) -> Seal {
    key.seal("witness", &[log.0.as_bytes(), &revision.0.to_be_bytes(), &leaf.0])
}
