//! A pidfd: the kernel's own handle on one process, which a reused pid can never inherit.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{
    Credentials, Ids,
    now::Now,
    ready::{self, Readable},
};

/// What a file system of pidfds calls itself (Linux 6.9 and later), where an inode number is never reused.
const PIDFS: i64 = 0x5049_4446;

/// An open pidfd of a whole process (a thread group).
#[derive(Debug)]
pub(crate) struct PidFd {
    fd: Arc<OwnedFd>,
    watch: OnceLock<Readable>,
    registering: Mutex<()>,
}

impl PidFd {
    /// The process that called connect(2) on the other end of `socket`.
    pub(crate) fn of_socket(socket: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self::new(getsockopt(&socket, sockopt::PeerPidfd)?))
    }

    /// The process that has this pid now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self::new(pidfd_open(pid, PidfdFlags::empty())?))
    }

    fn new(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd), watch: OnceLock::new(), registering: Mutex::new(()) }
    }

    /// Whether the process still runs. A zombie does not.
    pub(crate) fn alive(&self) -> bool {
        let mut ask = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        // A pidfd becomes readable, for ever, when its process ends. A failing poll is not proof of life.
        matches!(poll(&mut ask, PollTimeout::ZERO), Ok(0))
    }

    /// Returns when the process has ended. A process that cannot be watched counts as ended.
    pub(crate) async fn exited(&self) {
        while self.alive() {
            let Ok(watch) = self.watch() else { return };
            let Ok(mut ready) = watch.readable().await else { return };
            if self.alive() {
                ready.clear_ready();
            }
        }
    }

    /// Registered on first use: most connections end before anybody wants to know.
    fn watch(&self) -> io::Result<&Readable> {
        if let Some(watch) = self.watch.get() {
            return Ok(watch);
        }
        // One at a time: epoll refuses to register a descriptor twice.
        let _turn = self.registering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = self.watch.get() {
            return Ok(watch);
        }
        let watch = ready::watch(Arc::clone(&self.fd))?;
        Ok(self.watch.get_or_init(|| watch))
    }

    /// A number that no other process gets before the next boot; `None` before Linux 6.9.
    pub(crate) fn serial(&self) -> io::Result<Option<u64>> {
        static HAS_PIDFS: OnceLock<bool> = OnceLock::new();
        let found = || rustix::fs::fstatfs(&*self.fd).is_ok_and(|found| found.f_type == PIDFS);
        if *HAS_PIDFS.get_or_init(found) { Ok(Some(rustix::fs::fstat(&*self.fd)?.st_ino)) } else { Ok(None) }
    }

    /// Ids and cgroup of the process, without going through /proc; `None` where the kernel cannot (before 6.13).
    pub(crate) fn now(&self) -> io::Result<Option<Now>> {
        let mut info = Info { mask: MASK_CREDENTIALS | MASK_CGROUP, ..Info::default() };
        // SAFETY: `fd` is open while `self` lives, and `info` is a live, exclusively borrowed value laid
        // out like the kernel's struct pidfd_info of 64 bytes, whose size is part of the request number,
        // so the kernel writes no further. Every bit pattern is a valid `Info`.
        #[expect(unsafe_code, reason = "no safe wrapper of PIDFD_GET_INFO exists")]
        let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        if done < 0 {
            let error = io::Error::last_os_error();
            // Older kernels say ENOTTY, and 6.11 and 6.12 say EINVAL, for what they do not know.
            return match error.raw_os_error() {
                Some(libc::ESRCH) => Err(error),
                _ => Ok(None),
            };
        }
        if info.mask & MASK_CREDENTIALS == 0 {
            return Ok(None);
        }
        let credentials = Credentials {
            uid: Ids { real: info.ruid, effective: info.euid, saved: info.suid, filesystem: info.fsuid },
            gid: Ids { real: info.rgid, effective: info.egid, saved: info.sgid, filesystem: info.fsgid },
        };
        let cgroup = (info.mask & MASK_CGROUP != 0).then_some(info.cgroup);
        Ok(Some(Now { credentials, cgroup }))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The kernel's `struct pidfd_info` in its first version.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ruid: u32,
    rgid: u32,
    euid: u32,
    egid: u32,
    suid: u32,
    sgid: u32,
    fsuid: u32,
    fsgid: u32,
    exit_code: i32,
}

const _: () = assert!(size_of::<Info>() == 64 && size_of::<libc::pidfd_info>() == 64);

const MASK_CREDENTIALS: u64 = libc::PIDFD_INFO_CREDS as u64;
const MASK_CGROUP: u64 = libc::PIDFD_INFO_CGROUPID as u64;
