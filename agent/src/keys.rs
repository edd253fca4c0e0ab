//! Where workload keys outlive the agent's process: on a tmpfs, and nowhere else.
//!
//! With them the agent serves again after a crash although its server is away. Where `private_dir` is
//! on a disk, keys stay in memory, and a new process asks the server for new ones.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use daemon::{DiskError, disk, private_dir, read_private, write_private};
use registry::objects::EntryId;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use spiffe::{Bundles, PrivateKey, SpiffeId, Timestamp};
use zeroize::Zeroizing;

use crate::{
    issue::judge,
    publication::{Held, MadeFor},
    state::Base64,
    taint::Signers,
};

/// Workload keys that outlive the process, where that may be.
#[derive(Debug)]
pub(crate) struct Keys {
    dir: Option<PathBuf>,
}

impl Keys {
    /// In `private`, if what is written there stays in memory.
    pub(crate) fn under(private: &Path) -> Result<Self, DiskError> {
        if !disk::is_memory_only(private)? {
            return Ok(Self { dir: None });
        }
        let dir = private.join("keys");
        private_dir(&dir)?;
        Ok(Self { dir: Some(dir) })
    }

    /// Whether anything is kept at all.
    pub(crate) fn outlive_the_process(&self) -> bool {
        self.dir.is_some()
    }

    /// Where keys are, for people to read.
    pub(crate) fn storage(&self) -> &'static str {
        match self.dir {
            Some(_) => "tmpfs: the agent serves again after a crash without its server",
            None => "memory: after a crash the agent asks its server for new ones",
        }
    }

    /// What a former process kept and is good still.
    pub(crate) fn load(&self, bundles: &Bundles, now: Timestamp) -> Vec<(EntryId, Held)> {
        let files = self.dir.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        let mut loaded = Vec::new();
        for file in files {
            match read(&file.path(), bundles, now) {
                Ok(kept) => loaded.push(kept),
                Err(reason) => {
                    tracing::info!(path = %file.path().display(), reason, "removed a kept key");
                    let _ = fs::remove_file(file.path());
                }
            }
        }
        loaded
    }

    /// Keeps an SVID with its key.
    pub(crate) fn keep(&self, id: &EntryId, held: &Held) {
        let Some(path) = self.path(id) else { return };
        let kept = Kept {
            entry: id.clone(),
            spiffe_id: held.svid.id.clone(),
            made_for: held.made_for.clone(),
            chain: held.svid.chain.iter().map(|der| Base64(der.to_vec())).collect(),
            key: Base64(held.svid.key.pkcs8().to_vec()),
        };
        let written = match serde_json::to_vec(&kept).map(Zeroizing::new) {
            Ok(json) => write_private(&path, &json).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = written {
            // It is served all the same; only a crash would lose it.
            tracing::warn!(error, "cannot keep a workload's key");
        }
    }

    /// Wipes the key of an entry.
    pub(crate) fn wipe(&self, id: &EntryId) {
        if let Some(path) = self.path(id)
            && let Err(error) = disk::remove(&path)
        {
            tracing::error!(%error, "cannot remove a workload's key");
        }
    }

    /// An entry's id may be too long for a file's name, so its hash is taken.
    fn path(&self, id: &EntryId) -> Option<PathBuf> {
        let name = hex::encode(&digest(&SHA256, id.as_str().as_bytes()).as_ref()[..16]);
        self.dir.as_ref().map(|dir| dir.join(name))
    }
}

/// An SVID with its key, in memory that a crash does not wipe.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    entry: EntryId,
    spiffe_id: SpiffeId,
    made_for: MadeFor,
    chain: Vec<Base64>,
    key: Base64,
}

/// Believes a file no more than an answer from the server.
fn read(path: &Path, bundles: &Bundles, now: Timestamp) -> Result<(EntryId, Held), String> {
    let bytes = read_private(path, MOST_BYTES).map_err(|error| error.to_string())?.ok_or("it is gone")?;
    let kept: Kept = serde_json::from_slice(&Zeroizing::new(bytes)).map_err(|error| error.to_string())?;
    let key = PrivateKey::from_pkcs8(kept.key.0).map_err(|error| error.to_string())?;
    let chain = kept.chain.into_iter().map(|der| CertificateDer::from(der.0)).collect();
    let (svid, validity) =
        judge(&kept.spiffe_id, chain, key, bundles, now).map_err(|error| error.to_string())?;
    Ok((
        kept.entry,
        Held { signers: Signers::of(&svid.chain), svid: Arc::new(svid), validity, made_for: kept.made_for },
    ))
}

const MOST_BYTES: u64 = 256 * 1024;
