//! Which program a process runs, as the kernel names it: device and inode of the executable.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

/// The file behind an executable image.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// The device that holds it.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// When the inode was made, in seconds and nanoseconds, where the file system tells. Inode numbers
    /// are reused: without this, a file made after another was deleted could pass for it.
    born: Option<(i64, u32)>,
}

impl Image {
    /// The image that the process with this /proc directory runs now.
    pub(crate) fn of_process(dir: BorrowedFd<'_>) -> io::Result<Self> {
        match Self::look(dir, Path::new("exe"), AtFlags::empty(), ASK) {
            // A user's private FUSE mount (an AppImage) tells others its device only. That will do to see
            // that the process left it; nobody else can open the file, so it never gives a path or a hash.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Self::look(dir, Path::new("exe"), AtFlags::empty(), StatxFlags::empty())
            }
            looked => looked,
        }
    }

    /// The file at `path` as this process sees it, symbolic links followed.
    pub fn at_path(path: &Path) -> io::Result<Self> {
        Self::look(CWD, path, AtFlags::empty(), ASK)
    }

    /// This open file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Self::look(file.as_fd(), Path::new(""), AtFlags::EMPTY_PATH, ASK)
    }

    /// What lies at `path` itself, be it a link or a socket.
    pub(crate) fn at_name(path: &Path) -> io::Result<Self> {
        Self::look(CWD, path, AtFlags::SYMLINK_NOFOLLOW, ASK)
    }

    /// Whether both are one file.
    pub fn is(&self, other: &Self) -> bool {
        // A file system that tells the time of birth only now and then does not make two files of one.
        let born_alike = self.born.is_none() || other.born.is_none() || self.born == other.born;
        (self.device, self.inode) == (other.device, other.inode) && born_alike
    }

    fn look(dir: BorrowedFd<'_>, path: &Path, flags: AtFlags, ask: StatxFlags) -> io::Result<Self> {
        // DONT_SYNC: none of this ever changes, so a network or user-space file system need not be asked
        // for fresh attributes, and cannot make the accept loop wait for it.
        let flags = flags | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let found = statx(dir, path, flags, ask)?;
        let told = |what: StatxFlags| found.stx_mask & what.bits() != 0;
        if ask.contains(StatxFlags::INO) && !told(StatxFlags::INO) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self {
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: if ask.is_empty() { 0 } else { found.stx_ino },
            born: told(StatxFlags::BTIME).then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec)),
        })
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {:#x} inode {}", self.device, self.inode)
    }
}

const ASK: StatxFlags = StatxFlags::INO.union(StatxFlags::BTIME);
