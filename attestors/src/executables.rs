//! The executable of a process: its path, its hash and its build id, as far as they can be believed.

mod config;
mod elf;
mod hash;
mod look;
mod seen;

use std::{io, sync::Arc, time::Duration};

use peer::{Executions, Peer};
use tokio::task::spawn_blocking;

pub use self::config::Config;
#[cfg(test)]
pub(crate) use self::elf::build_id;
use self::{
    hash::{Content, HashError, Hashes, State},
    look::{Look, Looks},
};
use crate::{Evidence, Strength, turns::Turns};

#[derive(Debug)]
pub(crate) struct Executables {
    looks: Arc<Looks>,
    hashes: Hashes,
    looking: Turns<u32>,
}

/// What an entry wants to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) path: bool,
    pub(crate) sha256: bool,
}

impl Executables {
    /// Believes `executions` more than what processes show, where there are any.
    pub(crate) fn new(executions: Option<Arc<Executions>>, config: Config) -> Self {
        Self {
            looks: Arc::new(Looks::new(executions, config)),
            hashes: Hashes::default(),
            looking: Turns::new(LOOKS_AT_ONCE),
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
        if let Some(look) = self.looks.at_once(peer) {
            return Ok(look);
        }
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
        if let Some(look) = self.looks.at_once(&peer) {
            return Ok(look); // somebody else has looked meanwhile
        }
        let looks = Arc::clone(&self.looks);
        let look = spawn_blocking(move || {
            let look = looks.look(&peer);
            drop(turn);
            look
        });
        look.await.unwrap_or_else(|broken| Err(io::Error::other(broken)))
    }
}

const FROM_PATH: &str = "path of the executable, confirmed by the agent's own view of it";
const FROM_NOTES: &str = "notes in the file behind /proc/PID/exe";
const FROM_HASH: &str = "hash of the file behind /proc/PID/exe";

const LOOKS_AT_ONCE: usize = 4;
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// A large file from a slow disk; afterwards it is known.
const LONGEST_HASH: Duration = Duration::from_secs(30);
