//! The name of a process that no other process ever has, to count and remember by.

use std::{io, os::fd::BorrowedFd};

use crate::{pidfd::PidFd, pin, status};

/// One process since boot. A later process with the same pid is another one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Process {
    pid: u32,
    /// The inode of its pidfd (Linux 6.9 and later), else its start time: both are the process's own.
    serial: u64,
}

impl Process {
    pub(crate) fn read(pid: u32, pidfd: &PidFd, dir: BorrowedFd<'_>) -> io::Result<Self> {
        let serial = match pidfd.serial()? {
            Some(serial) => serial,
            None => status::start_time(dir)?,
        };
        Ok(Self { pid, serial })
    }

    /// Its number, as this machine's administrator sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What tells it from every other process since boot that has, or had, its number. Two programs on one machine
    /// read the same, so it can be told to another one.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether it still runs. Not knowing is answered with yes: forgetting a living process may cost it
    /// something, remembering a dead one costs a few bytes.
    pub fn is_alive(&self) -> bool {
        match self.find() {
            Ok(alive) => alive,
            Err(error) => !pin::says_gone(&error),
        }
    }

    fn find(&self) -> io::Result<bool> {
        let pidfd = PidFd::open(self.pid)?;
        let dir = pin::open_dir(self.pid)?;
        let found = Self::read(self.pid, &pidfd, rustix::fd::AsFd::as_fd(&dir))?;
        Ok(found == *self && pidfd.alive())
    }
}
