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
use peer::Exe;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::elf;
use crate::{recent::Recent, turns::Turns};

/// Hashes files and remembers the results.
#[derive(Debug)]
pub(super) struct Hashes {
    known: Arc<Mutex<Recent<State, Content>>>,
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

/// What was found in a file.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// Its hash, in lower-case hexadecimal.
    pub(super) sha256: Arc<str>,
    /// Its GNU build id, if it has one.
    pub(super) build_id: Option<Arc<str>>,
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
    /// What is in the file in this state that `open` opens. `user` is on
    /// whose behalf: each has one file hashed at a time, so that nobody's heap of new binaries keeps
    /// another's waiting.
    ///
    /// Whoever waits may stop waiting; what has begun is finished and remembered.
    pub(super) async fn of(
        &self,
        state: State,
        user: u32,
        open: impl FnOnce() -> io::Result<File> + Send + 'static,
    ) -> Result<Content, HashError> {
        if let Some(content) = self.remembered(&state) {
            return Ok(content);
        }
        if state.size > LARGEST {
            return Err(HashError::TooLarge(state.size));
        }
        let of_file = self.by_file.wait(state).await;
        if let Some(content) = self.remembered(&state) {
            return Ok(content); // somebody else has had it hashed meanwhile
        }
        let of_user = self.by_user.wait(user).await;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let known = Arc::clone(&self.known);
        let hashing = spawn_blocking(move || {
            let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let content = read(open()?, &state)?;
            if state.is_settled(began) {
                known.lock().put(state, content.clone());
            }
            drop((of_file, of_user, slot));
            Ok(content)
        });
        hashing.await.unwrap_or_else(|broken| Err(HashError::Read(io::Error::other(broken))))
    }

    fn remembered(&self, state: &State) -> Option<Content> {
        self.known.lock().get(state)
    }
}

impl State {
    /// Whether a write at `now` or later is certain to show in the change time. File systems stamp in
    /// ticks, so a second write within the tick of the first would leave no trace, and a hash taken
    /// between the two must not be remembered.
    fn is_settled(&self, now: Duration) -> bool {
        let tick = if self.changed.1 == 0 { COARSE_TICK } else { FINE_TICK };
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        now > Duration::new(seconds, nanos) + tick
    }
}

impl State {
    /// Whether its device is a disk, whose number no other file system ever gets unless root mounts one there.
    pub(super) fn is_on_disk(&self) -> bool {
        rustix::fs::major(self.device) != 0
    }
}

impl From<&Exe> for State {
    fn from(exe: &Exe) -> Self {
        Self {
            device: exe.image.device,
            inode: exe.image.inode,
            size: exe.size,
            modified: exe.modified,
            changed: exe.changed,
        }
    }
}

impl From<&Metadata> for State {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn read(mut file: File, state: &State) -> Result<Content, HashError> {
    let is_unchanged = |file: &File| Ok::<_, io::Error>(State::from(&file.metadata()?) == *state);
    if !is_unchanged(&file)? {
        return Err(HashError::Changed);
    }
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut left = state.size;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                left = left.checked_sub(n as u64).ok_or(HashError::Changed)?;
                context.update(&buffer[..n]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Between the same two looks at its state, so that both are of one content.
    let build_id = elf::build_id(&file)?.map(Into::into);
    if left > 0 || !is_unchanged(&file)? {
        return Err(HashError::Changed);
    }
    Ok(Content { sha256: hex::encode(context.finish()).into(), build_id })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    /// A file old enough to be remembered, its state, and a count of how often it was opened.
    fn settled_file(bytes: &[u8]) -> (tempfile::NamedTempFile, State, Arc<AtomicUsize>) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), bytes).expect("written");
        let state = State::from(&file.as_file().metadata().expect("metadata"));
        while !state.is_settled(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")) {
            std::thread::yield_now();
        }
        (file, state, Arc::default())
    }

    fn counted(
        path: &std::path::Path,
        opened: &Arc<AtomicUsize>,
    ) -> impl FnOnce() -> io::Result<File> + use<> {
        let (path, opened) = (path.to_owned(), Arc::clone(opened));
        move || {
            opened.fetch_add(1, Relaxed);
            File::open(path)
        }
    }

    #[tokio::test]
    async fn many_who_ask_for_one_file_have_it_hashed_once() {
        let hashes = Hashes::default();
        let (file, state, opened) = settled_file(b"abc");
        let all = (0..100).map(|user| hashes.of(state, user % 7, counted(file.path(), &opened)));
        for hash in futures::future::join_all(all).await {
            let hash = hash.expect("a hash");
            assert_eq!(&*hash.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        }
        assert_eq!(opened.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn whoever_stops_waiting_loses_nothing_for_the_others() {
        let hashes = Hashes::default();
        let (file, state, opened) = settled_file(&[7; 1 << 20]);
        let mut impatient = Box::pin(hashes.of(state, 1, counted(file.path(), &opened)));
        assert!(futures::poll!(&mut impatient).is_pending());
        drop(impatient);
        hashes.of(state, 2, counted(file.path(), &opened)).await.expect("a hash");
        assert_eq!(opened.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_written_to_is_hashed_again_and_not_under_its_old_state() {
        let hashes = Hashes::default();
        let (file, state, opened) = settled_file(b"abc");
        let before = hashes.of(state, 0, counted(file.path(), &opened)).await.expect("a hash");
        fs::write(file.path(), b"abd").expect("written");
        let now = State::from(&file.as_file().metadata().expect("metadata"));
        assert_ne!(now, state, "the file system noticed");
        let after = hashes.of(now, 0, counted(file.path(), &opened)).await.expect("a hash");
        assert_ne!(before.sha256, after.sha256);
        let hashes = Hashes::default();
        let stale = hashes.of(state, 0, counted(file.path(), &opened)).await;
        assert!(matches!(stale, Err(HashError::Changed)), "{stale:?}");
    }

    #[tokio::test]
    async fn a_file_written_just_now_is_not_remembered() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let state = State::from(&file.as_file().metadata().expect("metadata"));
        let changed = Duration::new(state.changed.0 as u64, state.changed.1 as u32);
        assert!(!state.is_settled(changed));
        assert!(!state.is_settled(changed + Duration::from_millis(10)));
        assert!(state.is_settled(changed + Duration::from_secs(4)));
        let whole_second = State { changed: (state.changed.0, 0), ..state };
        assert!(!whole_second.is_settled(changed + Duration::from_millis(500)));
    }

    #[tokio::test]
    async fn a_file_written_just_now_is_hashed_each_time() {
        let (file, _, opened) = settled_file(b"abc");
        // Over and over, until one round was quick enough to say something.
        loop {
            let hashes = Hashes::default();
            opened.store(0, Relaxed);
            fs::write(file.path(), b"abc").expect("written");
            let state = State::from(&file.as_file().metadata().expect("metadata"));
            hashes.of(state, 0, counted(file.path(), &opened)).await.expect("a hash");
            hashes.of(state, 0, counted(file.path(), &opened)).await.expect("a hash");
            if !state.is_settled(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")) {
                break assert_eq!(opened.load(Relaxed), 2);
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_while_it_is_hashed_has_no_hash() {
        let hashes = Hashes::default();
        let (file, _, opened) = settled_file(b"");
        file.as_file().set_len(64 << 20).expect("sparse");
        let state = State::from(&file.as_file().metadata().expect("metadata"));
        let hashing = hashes.of(state, 0, counted(file.path(), &opened));
        let touching = async {
            while opened.load(Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            // Before or while it is read, and either is noticed.
            file.as_file().set_modified(SystemTime::now()).expect("touched");
        };
        let (hash, ()) = tokio::join!(hashing, touching);
        assert!(matches!(hash, Err(HashError::Changed)), "{hash:?}");
    }

    #[tokio::test]
    async fn a_huge_file_is_refused_without_being_opened() {
        let hashes = Hashes::default();
        let (file, state, opened) = settled_file(b"");
        let state = State { size: LARGEST + 1, ..state };
        let refused = hashes.of(state, 0, counted(file.path(), &opened)).await;
        assert!(matches!(refused, Err(HashError::TooLarge(_))));
        assert_eq!(opened.load(Relaxed), 0);
    }
}
