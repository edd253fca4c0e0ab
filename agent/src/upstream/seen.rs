//! The newest revision that the server has shown.
//!
//! It is shown to the server again at each connection, with the proof that the server gave with it: so a
//! server whose log was put back, or that was restored from a backup, learns of what it does not know.

use std::path::{Path, PathBuf};

use daemon::{DiskError, read_private, write_private};
use parking_lot::Mutex;
use registry::{LogId, Revision};
use serde::{Deserialize, Serialize};
use server_api::wire::delta::Head;
use tokio::time::{Duration, Instant};

use crate::state::Base64;

/// What was seen, in memory and on disk.
pub(crate) struct Seen {
    path: PathBuf,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    head: Option<Head>,
    is_kept: bool,
    keep_at: Option<Instant>,
}

/// A head on disk.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptHead {
    log: LogId,
    revision: Revision,
    proof: Base64,
}

impl Seen {
    /// What was kept in this directory. One that cannot be read is left out.
    pub(crate) fn open(dir: &Path) -> Result<Self, DiskError> {
        let path = dir.join(FILE);
        let kept = read_private(&path, MOST_BYTES)?.and_then(|json| {
            let read: Result<KeptHead, _> = serde_json::from_slice(&json);
            let read = read.map_err(
                |error| tracing::warn!(path = %path.display(), %error, "ignored what cannot be read"),
            );
            let KeptHead { log, revision, proof } = read.ok()?;
            Some(Head { log, revision, proof: proof.0.into() })
        });
        let now = Now { is_kept: true, head: kept, keep_at: None };
        Ok(Self { path, now: Mutex::new(now) })
    }

    /// The newest.
    pub(crate) fn head(&self) -> Option<Head> {
        self.now.lock().head.clone()
    }

    /// Takes what the server shows now. Of the same log only more counts: a log that went back has not
    /// undone what it once said.
    pub(crate) fn hear(&self, head: &Head) {
        let mut now = self.now.lock();
        let is_older =
            now.head.as_ref().is_some_and(|seen| seen.log == head.log && seen.revision >= head.revision);
        if is_older || head.proof.is_empty() {
            return;
        }
        (now.head, now.is_kept) = (Some(head.clone()), false);
        // It changes with every change anywhere, so it is not written each time.
        if now.keep_at.is_none_or(|at| at <= Instant::now()) {
            now.keep_at = Some(Instant::now() + KEEP_EVERY);
            self.write(&mut now);
        }
    }

    /// Keeps the newest.
    pub(crate) fn keep(&self) {
        self.write(&mut self.now.lock());
    }

    fn write(&self, now: &mut Now) {
        let Some(head) = now.head.as_ref().filter(|_| !now.is_kept) else { return };
        let Head { log, revision, proof } = head.clone();
        let json = serde_json::to_vec(&KeptHead { log, revision, proof: Base64(proof.to_vec()) });
        let kept = json.map_err(|error| error.to_string());
        match kept.and_then(|json| write_private(&self.path, &json).map_err(|error| error.to_string())) {
            Ok(()) => now.is_kept = true,
            Err(error) => tracing::warn!(error, "cannot keep what the server has shown"),
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.keep();
    }
}

const FILE: &str = "seen.json";
const MOST_BYTES: u64 = 4096;
const KEEP_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn head(log: &str, revision: u64) -> Head {
        Head { log: LogId(log.into()), revision: Revision(revision), proof: vec![7; 64].into() }
    }

    #[test]
    fn the_newest_outlives_the_agent_and_a_log_that_went_back() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Seen::open(dir.path()).unwrap();
        for revision in [7, 9, 8] {
            seen.hear(&head("a", revision));
        }
        assert_eq!(seen.head(), Some(head("a", 9)));
        drop(seen);
        let seen = Seen::open(dir.path()).unwrap();
        assert_eq!(seen.head(), Some(head("a", 9)));
        seen.hear(&head("b", 3));
        assert_eq!(seen.head(), Some(head("b", 3)), "another log has other revisions");
    }

    #[test]
    fn what_cannot_be_read_is_as_if_it_were_not_there() {
        let dir = tempfile::tempdir().unwrap();
        write_private(&dir.path().join(FILE), b"{").unwrap();
        assert_eq!(Seen::open(dir.path()).unwrap().head(), None);
    }
}
