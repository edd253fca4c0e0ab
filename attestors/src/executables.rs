//! The executable of a process: its path, its hash and its build id, as far as they can be believed.

mod elf;
mod hash;
mod seen;

use std::{
    fs::{File, Metadata},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};

use peer::{Execution, Executions, Image, Peer};
use tokio::task::spawn_blocking;

#[cfg(test)]
pub(crate) use self::elf::build_id;
use self::{
    hash::{Content, HashError, Hashes, State},
    seen::{Seen, Sight},
};
use crate::{Evidence, Strength, turns::Turns};

#[derive(Debug)]
pub(crate) struct Executables {
    seen: Arc<Seen>,
    hashes: Hashes,
    looking: Turns<u32>,
    executions: Option<Arc<Executions>>,
}

/// What an entry wants to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) path: bool,
    pub(crate) sha256: bool,
}

/// What is to be said about the executable of one process.
struct Look {
    path: Result<Arc<str>, String>,
    hashable: Result<State, String>,
    strength: Strength,
}

impl Executables {
    /// Believes `executions` more than what processes show, where there are any.
    pub(crate) fn new(executions: Option<Arc<Executions>>) -> Self {
        Self {
            seen: Arc::new(Seen::new(PROCESSES)),
            hashes: Hashes::default(),
            looking: Turns::new(LOOKS_AT_ONCE),
            executions,
        }
    }

    /// Adds what was asked for and can be believed. The process is known not to be traced.
    pub(crate) async fn add(&self, peer: &Arc<Peer>, asked: Asked, evidence: &mut Evidence) {
        let look = match self.look_in_time(peer).await {
            Ok(look) => look,
            Err(why) => return evidence.note_for_now(why),
        };
        if asked.path {
            match look.path {
                Ok(path) => evidence.add("unix", &format!("path:{path}"), FROM_PATH, look.strength),
                Err(why) => evidence.note(format!("no path: {why}")),
            }
        }
        if asked.sha256 {
            match look.hashable {
                Ok(state) => {
                    if let Some(Content { sha256, .. }) = self.content(peer, state, "hash", evidence).await {
                        let value = format!("sha256:{sha256}");
                        evidence.add("unix", &value, FROM_HASH, look.strength);
                    }
                }
                Err(why) => evidence.note(format!("no hash: {why}")),
            }
        }
    }

    /// Adds the build id. The process is known not to be traced.
    pub(crate) async fn add_build_id(&self, peer: &Arc<Peer>, evidence: &mut Evidence) {
        let state = match self.look_in_time(peer).await {
            Ok(Look { hashable: Ok(state), .. }) => state,
            Ok(Look { hashable: Err(why), .. }) => return evidence.note(format!("no build id: {why}")),
            Err(why) => return evidence.note_for_now(why),
        };
        let Some(content) = self.content(peer, state, "build id", evidence).await else { return };
        match &content.build_id {
            Some(id) => evidence.add("binary", &format!("build_id:{id}"), FROM_NOTES, Strength::Weak),
            None => evidence.note("no build id: its executable has none"),
        }
    }

    /// The path of its executable, or why there is none to be believed. The process is known not to be traced.
    pub(crate) async fn path(&self, peer: &Arc<Peer>) -> Result<Arc<str>, String> {
        self.look_in_time(peer).await?.path
    }

    /// What is in the file, which is read once; why not becomes a note.
    async fn content(
        &self,
        peer: &Arc<Peer>,
        state: State,
        what: &str,
        evidence: &mut Evidence,
    ) -> Option<Content> {
        let user = peer.credentials().uid.effective;
        let process = Arc::clone(peer);
        let reading = self.hashes.of(state, user, move || process.open_exe());
        match tokio::time::timeout(LONGEST_HASH, reading).await {
            Ok(Ok(content)) => return Some(content),
            Ok(Err(error @ HashError::TooLarge(_))) => evidence.note(format!("no {what}: {error}")),
            Ok(Err(error)) => evidence.note_for_now(format!("no {what}: {error}")),
            Err(_) => {
                evidence.note_for_now(format!("no {what} yet: hashing its executable takes long, ask again"))
            }
        }
        None
    }

    async fn look_in_time(&self, peer: &Arc<Peer>) -> Result<Look, String> {
        match tokio::time::timeout(LONGEST_LOOK, self.look(Arc::clone(peer))).await {
            Ok(Ok(look)) => Ok(look),
            Ok(Err(error)) => Err(format!("cannot look at its executable: {error}")),
            Err(_) => Err("the file system of its executable does not answer".to_owned()),
        }
    }

    /// Files may lie on file systems that hang, or that a user serves, so this waits on a thread of its
    /// own, and each user has only a few of those.
    async fn look(&self, peer: Arc<Peer>) -> io::Result<Look> {
        let turn = self.looking.wait(peer.credentials().uid.effective).await;
        let seen = Arc::clone(&self.seen);
        let executions = self.executions.clone();
        let look = spawn_blocking(move || {
            let look = look(&peer, &seen, executions.as_deref());
            drop(turn);
            look
        });
        look.await.unwrap_or_else(|broken| Err(io::Error::other(broken)))
    }
}

fn look(peer: &Peer, seen: &Seen, executions: Option<&Executions>) -> io::Result<Look> {
    let link = peer.exe_link()?;
    let file = match peer.open_exe() {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let why = format!("only its user may read its executable {}", link.display());
            return Ok(Look::nothing(why));
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let image = peer.image();
    if !Image::of_file(&file)?.is(&image) {
        return Err(io::Error::other("the process has executed another program"));
    }
    let strength = match executions.map_or(Ok(Execution::NotSeen), |all| all.of(peer, &file))? {
        Execution::Seen => Strength::Kernel,
        Execution::NotSeen => Strength::Weak,
        Execution::Another => {
            let why = format!("it executed another file than {}, which its link shows now", link.display());
            return Ok(Look::nothing(why));
        }
    };
    let sight = match seen.sight(peer.process(), image) {
        Some(sight) => sight,
        None => match first_sight(&link, &metadata, image) {
            Ok(sight) => sight,
            Err(why) => return Ok(Look::nothing(why)),
        },
    };
    // A path that was not there may come to be; one that was is never taken away.
    let path = match &sight.path {
        Some(path) => Ok(Arc::clone(path)),
        None => confirmed_path(&link, image),
    };
    let sight = Sight { image, path: path.as_ref().ok().cloned() };
    // The process must have been there until now, or the next one with its number would be remembered.
    if peer.alive() {
        seen.remember(peer.process(), sight);
    }
    let hashable = if served_by_a_process(&file)? {
        Err("its executable lies on a file system that some process serves, which may show each reader \
             another content"
            .to_owned())
    } else {
        Ok(State::from(&metadata))
    };
    Ok(Look { path, hashable, strength })
}

impl Look {
    fn nothing(why: String) -> Self {
        Self { path: Err(why.clone()), hashable: Err(why), strength: Strength::Weak }
    }
}

/// The file must still be where it was started from, or nothing is known about where it came from.
fn first_sight(link: &Path, metadata: &Metadata, image: Image) -> Result<Sight, String> {
    use std::os::unix::{ffi::OsStrExt, fs::MetadataExt};
    if !metadata.is_file() {
        return Err("its executable is not a regular file".to_owned());
    }
    // A memfd has no name either, and is shown as /memfd:name (deleted).
    if metadata.nlink() == 0 || link.as_os_str().as_bytes().ends_with(b" (deleted)") {
        return Err("its executable had been deleted or replaced, or never had a name, when it was first \
                    seen; restart it"
            .to_owned());
    }
    Ok(Sight { image, path: None })
}

/// A process in a mount namespace of its own can have any file under any name, so a path counts only if
/// this process, in its own namespace, finds the same file there.
fn confirmed_path(link: &Path, image: Image) -> Result<Arc<str>, String> {
    let Some(text) = link.to_str().filter(|_| link.is_absolute()) else {
        return Err(format!("{} is not an absolute path in UTF-8", link.display()));
    };
    match Image::at_path(link) {
        Ok(found) if found.is(&image) => Ok(text.into()),
        Ok(_) => Err(format!("the agent sees another file at {text} than the one that it runs")),
        Err(error) => Err(format!("the agent does not see {text}: {error}")),
    }
}

/// FUSE: its server is asked for each read, and can answer the one that hashes otherwise than the one
/// that executes.
fn served_by_a_process(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(file)?.f_type as u64 == FUSE)
}

const FROM_PATH: &str = "path of the executable, confirmed by the agent's own view of it";
const FROM_NOTES: &str = "notes in the file behind /proc/PID/exe";
const FROM_HASH: &str = "hash of the file behind /proc/PID/exe";

const FUSE: u64 = 0x6573_5546;
const PROCESSES: usize = 65_536;
const LOOKS_AT_ONCE: usize = 4;
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// A large file from a slow disk; afterwards it is known.
const LONGEST_HASH: Duration = Duration::from_secs(30);
