//! What a process is at this moment, apart from its image: its ids and its cgroup.

use std::{io, os::fd::BorrowedFd};

use crate::{Credentials, Status, pidfd::PidFd};

/// What can be asked for at every request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Now {
    pub(crate) credentials: Credentials,
    /// The number of its cgroup in the unified hierarchy, where the kernel tells.
    pub(crate) cgroup: Option<u64>,
}

impl Now {
    /// From the pidfd where the kernel can (Linux 6.13, 1 µs), else from /proc (20 µs).
    pub(crate) fn read(pidfd: &PidFd, dir: BorrowedFd<'_>) -> io::Result<Self> {
        match pidfd.now()? {
            Some(now) => Ok(now),
            None => Ok(Self { credentials: Status::read(dir)?.credentials, cgroup: None }),
        }
    }

    /// Whether it is in another cgroup. That one moment told and the other did not proves nothing.
    pub(crate) fn moved_since(&self, before: &Self) -> bool {
        self.cgroup.zip(before.cgroup).is_some_and(|(now, then)| now != then)
    }
}
