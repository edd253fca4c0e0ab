//! Taking hold of a process: which way, in which order, and why it may fail.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{UnixCredentials, getsockopt, sockopt};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::{Credentials, Image, Peer, Process, now::Now, pidfd::PidFd};

/// How the process at the other end of a socket is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pinning {
    /// The kernel hands out a pidfd of the process that connected (`SO_PEERPIDFD`, Linux 6.5 and later).
    ByPidfd,
    /// By its number only. Between connecting and being accepted the process may have ended and another
    /// may have got its number; that window is open here, and closed in the other way. After that the
    /// process is held as firmly (pidfd_open, Linux 5.3 and later).
    InsecureByPid,
}

/// Why a process was not taken hold of; its connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// It ended, and perhaps its number is another's by now.
    #[error("the process that connected has ended")]
    Gone,
    /// Its pid means nothing here.
    #[error(
        "the process that connected is in a pid namespace that cannot be seen from here; run the agent in the host's pid namespace"
    )]
    OtherPidNamespace,
    /// It acts as somebody else than when it connected, as after running a set-uid program, so whoever
    /// holds the other end may not be who it is now.
    #[error("process {pid} connected as uid {} gid {} and now acts as uid {} gid {}", was.0, was.1, now.0, now.1)]
    SwitchedUser {
        /// The process.
        pid: u32,
        /// Uid and gid when it connected.
        was: (u32, u32),
        /// Uid and gid when it was accepted.
        now: (u32, u32),
    },
    /// One of its ids has no number here.
    #[error(
        "process {pid} runs under a user or group that this user namespace has no number for; run the agent outside of it"
    )]
    UnmappedUser {
        /// The process.
        pid: u32,
    },
    /// A kernel thread, or a process whose first thread has ended before the others.
    #[error("process {pid} has no executable: it is a kernel thread or its first thread has ended")]
    NoImage {
        /// The process.
        pid: u32,
    },
    /// The kernel keeps its /proc entry from us.
    #[error(
        "process {pid} cannot be examined without more rights; run the agent as root, or both under one uid"
    )]
    NoRights {
        /// The process.
        pid: u32,
    },
    /// This kernel cannot say who connected.
    #[error("this kernel has no SO_PEERPIDFD; use Linux 6.5 or later, or accept insecure_peer_by_pid = true")]
    OldKernel,
    /// Anything else, such as running out of file descriptors.
    #[error("cannot take hold of the process that connected: {0}")]
    Io(io::Error),
}

impl PinError {
    /// Whether it failed only because this process, or the machine, has no more file descriptors.
    pub(crate) fn is_exhaustion(&self) -> bool {
        matches!(self, Self::Io(error) if says_exhausted(error))
    }

    pub(crate) fn of(pid: u32, error: io::Error) -> Self {
        match error.raw_os_error() {
            _ if says_gone(&error) => Self::Gone,
            Some(libc::EACCES | libc::EPERM) => Self::NoRights { pid },
            _ => Self::Io(error),
        }
    }
}

impl Peer {
    /// Takes hold of the process that connected to this accepted `socket`. Nothing is read from it.
    pub fn pin(socket: impl AsFd, pinning: Pinning) -> Result<Self, PinError> {
        let socket = socket.as_fd();
        // The credentials are of connect(2), and so is the pidfd: both are one and the same process.
        let connected = getsockopt(&socket, sockopt::PeerCredentials).map_err(|e| PinError::Io(e.into()))?;
        let pid = match u32::try_from(connected.pid()) {
            Ok(0) | Err(_) => return Err(PinError::OtherPidNamespace),
            Ok(pid) => pid,
        };
        let pidfd = match pinning {
            Pinning::ByPidfd => pidfd_of(socket)?,
            Pinning::InsecureByPid => PidFd::open(pid).map_err(|error| PinError::of(pid, error))?,
        };
        let peer = Self::hold(pid, pidfd)?;
        peer.still_acts_as(&connected)?;
        Ok(peer)
    }

    /// Takes hold of the process that has this pid now, for an administrator who names one.
    pub fn open(pid: u32) -> Result<Self, PinError> {
        let pidfd = PidFd::open(pid).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => PinError::Gone, // no thread group leader has this number
            _ => PinError::of(pid, error),
        })?;
        Self::hold(pid, pidfd)
    }

    /// The order matters: what is opened and read by number is this process's only if the process was
    /// still alive afterwards, since a number is free for others only when its process is gone.
    fn hold(pid: u32, pidfd: PidFd) -> Result<Self, PinError> {
        let of_pid = |error| PinError::of(pid, error);
        let dir = open_dir(pid).map_err(of_pid)?;
        let now = Now::read(&pidfd, dir.as_fd()).map_err(of_pid)?;
        let image = Image::of_process(dir.as_fd());
        let again = Now::read(&pidfd, dir.as_fd()).map_err(of_pid)?.credentials;
        let process = Process::read(pid, &pidfd, dir.as_fd()).map_err(of_pid)?;
        if !pidfd.alive() {
            return Err(PinError::Gone);
        }
        let image = image.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT) => PinError::NoImage { pid },
            _ => of_pid(error),
        })?;
        if now.credentials.has_unmapped() {
            return Err(PinError::UnmappedUser { pid });
        }
        // Ids and image must be of one moment: running a set-uid program changes both.
        if again != now.credentials {
            return Err(switched(pid, &now.credentials, &again));
        }
        Ok(Self::new(process, pidfd, dir, now, image))
    }

    /// INVARIANT: a connection made as one user never speaks for another. A process can connect, leave
    /// the descriptor to a child, and run a set-uid program: it would be accepted as root, and the child
    /// would do the asking.
    fn still_acts_as(&self, connected: &UnixCredentials) -> Result<(), PinError> {
        let was = (connected.uid(), connected.gid());
        let now = (self.credentials().uid.effective, self.credentials().gid.effective);
        if was == now { Ok(()) } else { Err(PinError::SwitchedUser { pid: self.pid(), was, now }) }
    }
}

fn switched(pid: u32, was: &Credentials, now: &Credentials) -> PinError {
    let acting = |ids: &Credentials| (ids.uid.effective, ids.gid.effective);
    PinError::SwitchedUser { pid, was: acting(was), now: acting(now) }
}

fn pidfd_of(socket: BorrowedFd<'_>) -> Result<PidFd, PinError> {
    PidFd::of_socket(socket).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => PinError::OldKernel,
        // Some kernels (6.8) say EINVAL for a process that was reaped; an unknown option is another error.
        Some(libc::EINVAL | libc::ESRCH | libc::ENODATA) => PinError::Gone,
        _ => PinError::Io(error),
    })
}

pub(crate) fn open_dir(pid: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?)
}

/// What /proc and pidfds answer about a process that is no more.
pub(crate) fn says_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

pub(crate) fn says_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}
