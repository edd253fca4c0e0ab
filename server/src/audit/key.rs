//! The key of the checkpoints, and the root of the keys that tenants have.

use std::path::Path;

use audit::tree::NoteKey;
use aws_lc_rs::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use daemon::{read_private, write_private};
use zeroize::Zeroizing;

use super::AuditError;

/// What lies in `audit.key`: the seed of an Ed25519 key, and a root from which each tenant's key is made.
pub(crate) struct AuditKey {
    note: NoteKey,
    tenants: hmac::Key,
}

impl AuditKey {
    /// Opens it; made together with the audit log, never later.
    pub(super) fn open(path: &Path, log: &Path) -> Result<Self, AuditError> {
        let bytes = match read_private(path, BYTES as u64)? {
            Some(bytes) => Zeroizing::new(bytes),
            None if log.exists() => return Err(AuditError::NoKey { path: path.to_owned() }),
            None => {
                let mut fresh = Zeroizing::new(vec![0; BYTES]);
                let random = SystemRandom::new().fill(&mut fresh);
                random.map_err(|_| AuditError::Start("there is no randomness".to_owned()))?;
                write_private(path, &fresh)?;
                fresh
            }
        };
        let bad = || AuditError::Key { path: path.to_owned() };
        let (seed, tenants) = bytes.split_first_chunk::<32>().ok_or_else(bad)?;
        if tenants.len() != 32 {
            return Err(bad());
        }
        let tenants = hmac::Key::new(hmac::HMAC_SHA256, tenants);
        Ok(Self { note: NoteKey::from_seed(Zeroizing::new(*seed)), tenants })
    }

    pub(super) fn note(&self) -> &NoteKey {
        &self.note
    }

    pub(super) fn tenant(&self, name: &str) -> Zeroizing<[u8; 32]> {
        let tag = hmac::sign(&self.tenants, &[b"writ tenant v1\0", name.as_bytes()].concat());
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(tag.as_ref());
        key
    }
}

const BYTES: usize = 64;
