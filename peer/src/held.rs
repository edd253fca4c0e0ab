//! [`Peer`]: a process that is held, and whether it is still what it was.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
    sync::OnceLock,
};

use rustix::fs::{Mode, OFlags, openat, readlinkat};

use crate::{
    Credentials, Exe, Image, Kin, PinError, Process, Status, now::Now, pidfd::PidFd, pin::says_gone, status,
};

/// A process, held by its pidfd and its /proc directory, with what it was when that began.
pub struct Peer {
    process: Process,
    pidfd: PidFd,
    /// Answers only for this process: the kernel fails every look-up in it once the process is gone.
    dir: OwnedFd,
    /// Its ids and its cgroup when it was accepted.
    then: Now,
    image: Image,
    /// Its cgroups when somebody first wanted to know them.
    cgroups: OnceLock<Box<str>>,
}

/// In what a process is no longer what it was. Its connection must be closed; a new one is judged anew.
#[derive(Debug, thiserror::Error)]
pub enum Changed {
    /// It has ended.
    #[error("process {pid} has exited")]
    Exited {
        /// The process.
        pid: u32,
    },
    /// It executed another file.
    #[error("process {pid} runs another program than when it connected ({now} instead of {was})")]
    Image {
        /// The process.
        pid: u32,
        /// What it ran when it connected.
        was: Image,
        /// What it runs now.
        now: Image,
    },
    /// It executed a program, perhaps the same file once more.
    #[error("process {pid} has executed a program since it connected")]
    Executed {
        /// The process.
        pid: u32,
    },
    /// It is in another cgroup.
    #[error("process {pid} was moved to another cgroup since it connected")]
    Moved {
        /// The process.
        pid: u32,
    },
    /// It acts under other ids.
    #[error("process {pid} changed its uids or gids since it connected (acts as {now}, was {was})")]
    Credentials {
        /// The process.
        pid: u32,
        /// As whom it connected.
        was: Credentials,
        /// As whom it acts now.
        now: Credentials,
    },
    /// Nothing can be said, which is as bad.
    #[error("process {pid} can no longer be examined: {source}")]
    Unreadable {
        /// The process.
        pid: u32,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl Peer {
    pub(crate) fn new(process: Process, pidfd: PidFd, dir: OwnedFd, then: Now, image: Image) -> Self {
        Self { process, pidfd, dir, then, image, cgroups: OnceLock::new() }
    }

    /// Whether this is still the same living image under the same ids, in the same cgroup of the unified
    /// hierarchy. It makes three system calls (4 µs) and does not block, so ask before every answer and
    /// every push.
    ///
    /// The start time need not be compared: while the pidfd is alive, the process is the same one.
    pub fn check(&self) -> Result<(), Changed> {
        let pid = self.pid();
        let seen = Now::read(&self.pidfd, self.dir.as_fd())
            .and_then(|now| Ok((now, Image::of_process(self.dir.as_fd())?)));
        // Last, so that what was just read is known to have been read from the living.
        if !self.pidfd.alive() {
            return Err(Changed::Exited { pid });
        }
        match seen {
            Ok((now, _)) if now.credentials != self.then.credentials => {
                Err(Changed::Credentials { pid, was: self.then.credentials, now: now.credentials })
            }
            Ok((now, _)) if now.moved_since(&self.then) => Err(Changed::Moved { pid }),
            Ok((_, now)) if !now.is(&self.image) => Err(Changed::Image { pid, was: self.image, now }),
            Ok(_) => Ok(()),
            Err(source) if says_gone(&source) => Err(Changed::Exited { pid }),
            Err(source) => Err(Changed::Unreadable { pid, source }),
        }
    }

    /// The same, and whether it is in the same cgroups of all hierarchies, if anybody has asked for them
    /// ([`Self::cgroup`]). That takes 20 µs more.
    pub fn check_closely(&self) -> Result<(), Changed> {
        let moved = match self.cgroups.get() {
            // What cannot be read is no longer known to be the same; if it is gone, the check says so.
            Some(then) => !status::cgroup(self.dir.as_fd()).is_ok_and(|now| now == **then),
            None => false,
        };
        self.check()?;
        if moved { Err(Changed::Moved { pid: self.pid() }) } else { Ok(()) }
    }

    /// Whether it still runs, whatever it runs.
    pub fn alive(&self) -> bool {
        self.pidfd.alive()
    }

    /// Returns when the process has ended, also if it has a socket left open in another process.
    /// Must be awaited inside a Tokio runtime.
    pub async fn exited(&self) {
        self.pidfd.exited().await;
    }

    /// Its /proc directory.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Sends it a signal, and to no later process of its number.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        let signal = rustix::process::Signal::from_named_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(rustix::process::pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Its number, for people to read. Numbers are reused: to tell processes apart use [`Self::process`].
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What to count and remember it by.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Its uids and gids when it was accepted; [`Self::check`] says whether they still hold.
    pub fn credentials(&self) -> &Credentials {
        &self.then.credentials
    }

    /// The program that it ran when it was accepted; [`Self::check`] says whether it still does.
    pub fn image(&self) -> Image {
        self.image
    }

    /// When it started, in clock ticks since boot.
    pub fn start_time(&self) -> io::Result<u64> {
        status::start_time(self.dir.as_fd())
    }

    /// Supplementary groups, tracer and ids, as they are now. Costs some tens of microseconds.
    pub fn status(&self) -> io::Result<Status> {
        Status::read(self.dir.as_fd())
    }

    /// Its parent's number and its terminal, as they are now.
    pub fn kin(&self) -> io::Result<Kin> {
        status::kin(self.dir.as_fd())
    }

    /// Its parent, held; `None` if it has none that can be seen from here.
    pub fn parent(&self) -> Result<Option<Self>, PinError> {
        let parent = || self.kin().map(|kin| kin.parent).map_err(|error| PinError::of(self.pid(), error));
        let pid = parent()?;
        if pid == 0 {
            return Ok(None);
        }
        let held = Self::open(pid)?;
        // INVARIANT: its parent has this number, and so has a living process that is held: they are one.
        if parent()? != pid || !held.alive() {
            return Err(PinError::Gone);
        }
        Ok(Some(held))
    }

    /// Which cgroups it is in now, as the text of /proc/PID/cgroup has it from this process's own cgroup
    /// namespace. A text that is not UTF-8, or too long to be read in full, is an error. Whoever has asked
    /// learns of a move ([`Self::check_closely`]).
    pub fn cgroup(&self) -> io::Result<String> {
        let text = status::cgroup(self.dir.as_fd())?;
        self.cgroups.get_or_init(|| text.as_str().into());
        Ok(text)
    }

    /// Where its program lies in its own mount namespace, which it may have furnished itself; with
    /// ` (deleted)` behind it if the file is no longer there.
    pub fn exe_link(&self) -> io::Result<PathBuf> {
        let link = readlinkat(&self.dir, "exe", Vec::with_capacity(256))?;
        Ok(OsString::from_vec(link.into_bytes()).into())
    }

    /// The file that it runs now, and in which state that is. It does not block.
    pub fn exe(&self) -> io::Result<Exe> {
        Exe::of_process(self.dir.as_fd())
    }

    /// The very file that it runs, wherever that lies. May block on a slow file system.
    pub fn open_exe(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        Ok(openat(&self.dir, "exe", flags, Mode::empty())?.into())
    }
}

impl AsFd for Peer {
    /// The pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}, {})", self.pid(), self.then.credentials, self.image)
    }
}
