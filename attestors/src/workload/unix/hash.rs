//! [`Hashes`]: the SHA-256 of an executable, computed once for each state of each file.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{Context, SHA256};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{recent::Recent, turns::Turns};

/// Hashes files and remembers the results.
#[derive(Debug)]
pub(super) struct Hashes {
    known: Arc<Mutex<Recent<State, Arc<str>>>>,
    by_file: Turns<State>,
    by_user: Turns<u32>,
    slots: Arc<Semaphore>,
}

/// A file in one state. The change time is the file system's and cannot be set back by the file's owner,
/// so whoever writes to the file makes another state of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct State {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub(super) enum HashError {
    #[error("its executable of {0} bytes is larger than the {LARGEST} that are hashed")]
    TooLarge(u64),
    #[error("its executable changed while it was hashed")]
    Changed,
    #[error("its executable could not be read: {0}")]
    Read(#[from] io::Error),
}

impl Default for Hashes {
    fn default() -> Self {
        Self {
            known: Arc::new(Mutex::new(Recent::new(REMEMBERED))),
            by_file: Turns::new(1),
            by_user: Turns::new(1),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Hashes {
    /// The hash in lower-case hexadecimal. `user` is on whose behalf: each has one file hashed at a time,
    /// so that nobody's heap of new binaries keeps another's waiting.
    ///
    /// Once begun it is finished and remembered, also if the caller stops waiting.
    pub(super) async fn of(&self, file: File, before: &Metadata, user: u32) -> Result<Arc<str>, HashError> {
        let state = State::of(before);
        if let Some(hash) = self.known.lock().get(&state) {
            return Ok(hash);
        }
        if state.size > LARGEST {
            return Err(HashError::TooLarge(state.size));
        }
        let of_file = self.by_file.wait(state).await;
        if let Some(hash) = self.known.lock().get(&state) {
            return Ok(hash); // somebody else has hashed it meanwhile
        }
        let of_user = self.by_user.wait(user).await;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let known = Arc::clone(&self.known);
        let hashing = spawn_blocking(move || {
            let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let hash = hash(file, &state)?;
            if state.is_settled(began) {
                known.lock().put(state, Arc::clone(&hash));
            }
            drop((of_file, of_user, slot));
            Ok(hash)
        });
        hashing.await.unwrap_or_else(|broken| Err(HashError::Read(io::Error::other(broken))))
    }
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a write after `now` is certain to show in the change time. File systems stamp in ticks, so
    /// a second write within the tick of the first would leave no trace, and a hash taken between them
    /// must not be remembered.
    fn is_settled(&self, now: Duration) -> bool {
        let tick = if self.changed.1 == 0 { COARSE_TICK } else { FINE_TICK };
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        now > Duration::new(seconds, nanos) + tick
    }
}

fn hash(mut file: File, state: &State) -> Result<Arc<str>, HashError> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut left = state.size;
    loop {
        let n = match file.read(&mut buffer) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if n == 0 {
            break;
        }
        left = left.checked_sub(n as u64).ok_or(HashError::Changed)?;
        context.update(&buffer[..n]);
    }
    if left > 0 || State::of(&file.metadata()?) != *state {
        return Err(HashError::Changed);
    }
    Ok(hex::encode(context.finish()).into())
}

/// 2 GiB take a second from memory; a model packed into an executable may be larger than one would think.
const LARGEST: u64 = 2 << 30;
const REMEMBERED: usize = 2048;
/// Hashing keeps a core busy, and there are other things to do.
const AT_ONCE: usize = 2;
/// Linux stamps once a timer tick, 10 ms at the longest.
const FINE_TICK: Duration = Duration::from_millis(100);
/// File systems that keep whole seconds (or, FAT, every other second).
const COARSE_TICK: Duration = Duration::from_secs(3);
