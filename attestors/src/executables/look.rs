//! [`Looks`]: which file a process runs, and how far that can be believed.
//!
//! What is in the kernel's memory is looked at on the spot, since a hop to another thread and back costs
//! more than all of it. Whatever may make a file system do something is done on a thread that may wait.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;
use peer::{Exe, Execution, Executions, Image, Peer};

use super::{
    Config,
    hash::State,
    seen::{Seen, Sight},
};
use crate::{Strength, recent::Recent};

/// Looks at processes, and remembers what stays true.
#[derive(Debug)]
pub(super) struct Looks {
    seen: Seen,
    /// Files on disks that could be opened, with the type of their file system.
    files: Mutex<Recent<State, u64>>,
    executions: Option<Arc<Executions>>,
    config: Config,
}

/// What is to be said about the executable of one process.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) path: Result<Arc<str>, String>,
    pub(super) hashable: Result<State, String>,
    pub(super) strength: Strength,
}

/// What the file system said of a file.
struct Found {
    image: Image,
    state: State,
    is_regular: bool,
    links: u64,
}

impl Looks {
    pub(super) fn new(executions: Option<Arc<Executions>>, config: Config) -> Self {
        let files = Mutex::new(Recent::new(FILES));
        Self { seen: Seen::new(PROCESSES), files, executions, config }
    }

    /// What can be said from memory: of a process that was looked at before, or of a file on a disk of which
    /// another process was. `None` is not known yet, or takes longer.
    pub(super) fn at_once(&self, peer: &Peer) -> Option<Look> {
        let exe = peer.exe().ok()?;
        let found = Found::from(&exe);
        if !found.image.is(&peer.image()) {
            return None;
        }
        let sight = self.seen.sight(peer.process(), found.image);
        let on_disk = || found.state.is_on_disk().then(|| self.files.lock().get(&found.state)).flatten();
        let file_system = sight.as_ref().and_then(|sight| sight.local).or_else(on_disk)?;
        let execution = match &self.executions {
            Some(executions) => executions.at_once(peer, found.image, file_system)?,
            None => Execution::NotSeen,
        };
        let strength = match self.strength(execution) {
            Ok(strength) => strength,
            Err(why) => return Some(Look::nothing(why)),
        };
        let path = match sight {
            Some(Sight { path: Some(path), .. }) => path,
            sight => {
                let link = peer.exe_link().ok()?;
                if sight.is_none() {
                    found.is_in_place(&link).ok()?;
                }
                let text = utf8(&link).ok()?;
                Image::at_path_at_once(&link).ok().filter(|there| there.is(&found.image))?;
                let path: Arc<str> = text.into();
                let sight =
                    Sight { image: found.image, path: Some(Arc::clone(&path)), local: Some(file_system) };
                // As below: it must have been there until now.
                let is_remembered = peer.alive() && self.seen.remember_at_once(peer.process(), sight);
                is_remembered.then_some(path)?
            }
        };
        Some(Look { path: Ok(path), hashable: Ok(found.state), strength })
    }

    /// What can be said by asking file systems, which may take as long as they like.
    pub(super) fn look(&self, peer: &Peer) -> io::Result<Look> {
        let link = peer.exe_link()?;
        let file = match peer.open_exe() {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let why = format!("only its user may read its executable {}", link.display());
                return Ok(Look::nothing(why));
            }
            Err(error) => return Err(error),
        };
        let found = Found::by(&file.metadata()?, Image::of_file(&file)?);
        if !found.image.is(&peer.image()) {
            return Err(io::Error::other("the process has executed another program"));
        }
        let file_system = file_system(&file)?;
        let execution = match &self.executions {
            Some(executions) => executions.of(peer, found.image, file_system),
            None => Execution::NotSeen,
        };
        let strength = match self.strength(execution) {
            Ok(strength) => strength,
            Err(why) => return Ok(Look::nothing(why)),
        };
        let sight = match self.seen.sight(peer.process(), found.image) {
            Some(sight) => sight,
            None => match found.is_in_place(&link) {
                Ok(()) => Sight { image: found.image, path: None, local: None },
                Err(why) => return Ok(Look::nothing(why)),
            },
        };
        // A path that was not there may come to be; one that was is never taken away.
        let path = match &sight.path {
            Some(path) => Ok(Arc::clone(path)),
            None => confirmed_path(&link, found.image),
        };
        let local = LOCAL.contains(&file_system).then_some(file_system);
        let sight = Sight { image: found.image, path: path.as_ref().ok().cloned(), local };
        // The process must have been there until now, or the next one with its number would be remembered.
        if peer.alive() {
            self.seen.remember(peer.process(), sight);
        }
        if let Some(file_system) = local.filter(|_| found.state.is_on_disk()) {
            self.files.lock().put(found.state, file_system);
        }
        let hashable = if file_system == FUSE { Err(SERVED.to_owned()) } else { Ok(found.state) };
        Ok(Look { path, hashable, strength })
    }

    /// How strong is what can be said of a program, or why nothing is to be said.
    fn strength(&self, execution: Execution) -> Result<Strength, String> {
        let Config { refuse_weak, insecure_after_loss } = self.config;
        match execution {
            Execution::Seen => Ok(Strength::Kernel),
            Execution::Another => {
                Err("it executed another file than the one that its link in /proc shows now".to_owned())
            }
            Execution::Unclear if !insecure_after_loss || refuse_weak => Err(UNCLEAR.to_owned()),
            Execution::NotSeen if refuse_weak => Err(REFUSED.to_owned()),
            Execution::Unclear | Execution::NotSeen => Ok(Strength::Weak),
        }
    }
}

impl Look {
    fn nothing(why: String) -> Self {
        Self { path: Err(why.clone()), hashable: Err(why), strength: Strength::Weak }
    }
}

impl Found {
    fn by(metadata: &Metadata, image: Image) -> Self {
        Self { image, state: State::from(metadata), is_regular: metadata.is_file(), links: metadata.nlink() }
    }

    /// The file must still be where it was started from when it is first seen, or nothing is known about
    /// where it came from.
    fn is_in_place(&self, link: &Path) -> Result<(), String> {
        if !self.is_regular {
            return Err("its executable is not a regular file".to_owned());
        }
        // A memfd has no name either, and is shown as /memfd:name (deleted).
        if self.links == 0 || link.as_os_str().as_bytes().ends_with(b" (deleted)") {
            return Err(
                "its executable had been deleted or replaced, or never had a name, when it was first \
                        seen; restart it"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl From<&Exe> for Found {
    fn from(exe: &Exe) -> Self {
        let links = exe.links.into();
        Self { image: exe.image, state: State::from(exe), is_regular: exe.is_regular, links }
    }
}

/// A process in a mount namespace of its own can have any file under any name, so a path counts only if
/// this process, in its own namespace, finds the same file there.
fn confirmed_path(link: &Path, image: Image) -> Result<Arc<str>, String> {
    let text = utf8(link)?;
    match Image::at_path(link) {
        Ok(found) if found.is(&image) => Ok(text.into()),
        Ok(_) => Err(format!("the agent sees another file at {text} than the one that it runs")),
        Err(error) => Err(format!("the agent does not see {text}: {error}")),
    }
}

fn utf8(link: &Path) -> Result<&str, String> {
    let text = link.to_str().filter(|_| link.is_absolute());
    text.ok_or_else(|| format!("{} is not an absolute path in UTF-8", link.display()))
}

/// Its type, as `statfs` names it.
fn file_system(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::fstatfs(file)?.f_type as u64)
}

const UNCLEAR: &str = "it is not clear what it executed: the kernel's records of that time were lost, or it started \
                       with an executable stack; restart it";
const REFUSED: &str = "the kernel's records do not tell what it executed, and attestors.executables.refuse_weak \
                       is set";
const SERVED: &str = "its executable lies on a file system that some process serves, which may show each reader \
                      another content";

/// Its server is asked for each read, and can answer the one that hashes otherwise than the one that executes.
const FUSE: u64 = 0x6573_5546;
/// File systems that know the state of a file without asking anybody: ext2, 3 and 4, XFS, tmpfs, F2FS,
/// SquashFS, EROFS, btrfs, overlays (of a process that was looked at while its layers answered).
const LOCAL: [u64; 8] =
    [0xEF53, 0x5846_5342, 0x0102_1994, 0xF2F5_2010, 0x7371_7368, 0xE0F5_E1E2, 0x9123_683E, 0x794C_7630];
const PROCESSES: usize = 65_536;
const FILES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn start() -> (Child, Peer) {
        let mut cat = Command::new("cat");
        let child = cat.stdin(Stdio::piped()).spawn().expect("cat starts");
        let peer = Peer::open(child.id()).expect("held");
        (child, peer)
    }

    fn end(mut child: Child) {
        child.kill().expect("ours");
        child.wait().expect("ours");
    }

    #[test]
    fn a_process_that_was_looked_at_is_known_on_the_spot_and_so_is_a_program_on_a_disk() {
        let looks = Looks::new(None, Config::default());
        let (child, peer) = start();
        assert!(looks.at_once(&peer).is_none(), "nobody has asked its file system yet");
        let looked = looks.look(&peer).expect("it can be looked at");
        let again = looks.at_once(&peer).expect("it is known");
        assert!(looked.path.is_ok() && looked.hashable.is_ok(), "{looked:?}");
        assert_eq!((&again.path, &again.hashable), (&looked.path, &looked.hashable));
        let (other, another) = start();
        let on_disk = looked.hashable.expect("looked at").is_on_disk();
        assert_eq!(looks.at_once(&another).is_some(), on_disk);
        end(child);
        end(other);
    }

    #[test]
    fn what_is_said_of_a_program_depends_on_what_is_known_and_on_the_operator() {
        let said = |execution, refuse_weak, insecure_after_loss| {
            let looks = Looks::new(None, Config { refuse_weak, insecure_after_loss });
            looks.strength(execution).ok()
        };
        let weak = Some(Strength::Weak);
        for (execution, usual, lax, strict) in [
            (Execution::Seen, Some(Strength::Kernel), Some(Strength::Kernel), Some(Strength::Kernel)),
            (Execution::NotSeen, weak, weak, None),
            (Execution::Unclear, None, weak, None),
            (Execution::Another, None, None, None),
        ] {
            assert_eq!(said(execution, false, false), usual, "{execution:?}");
            assert_eq!(said(execution, false, true), lax, "{execution:?}");
            assert_eq!(said(execution, true, false), strict, "{execution:?}");
            assert_eq!(said(execution, true, true), strict, "{execution:?}");
        }
    }
}
