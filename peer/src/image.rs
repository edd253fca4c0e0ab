//! Which program a process runs, as the kernel names it: device and inode of the executable.

use std::{fmt, fs, io, os::fd::BorrowedFd, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

/// The file behind an executable image.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Image {
    /// The device that holds it.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
}

impl Image {
    /// The image that the process with this /proc directory runs now.
    pub(crate) fn of_process(dir: BorrowedFd<'_>) -> io::Result<Self> {
        match Self::look(dir, Path::new("exe"), StatxFlags::INO) {
            // A user's private FUSE mount (an AppImage) tells others its device only. That will do to see
            // that the process left it; nobody else can open the file, so it never gives a path or a hash.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Self::look(dir, Path::new("exe"), StatxFlags::empty())
            }
            looked => looked,
        }
    }

    /// The file at `path` as this process sees it, symbolic links followed.
    pub fn at_path(path: &Path) -> io::Result<Self> {
        Self::look(CWD, path, StatxFlags::INO)
    }

    fn look(dir: BorrowedFd<'_>, path: &Path, ask: StatxFlags) -> io::Result<Self> {
        // DONT_SYNC: device and inode never change, so a network or user-space file system need not be
        // asked for fresh attributes, and cannot make the accept loop wait for it.
        let found = statx(dir, path, AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT, ask)?;
        if found.stx_mask & ask.bits() != ask.bits() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let inode = if ask.is_empty() { 0 } else { found.stx_ino };
        Ok(Self { device: makedev(found.stx_dev_major, found.stx_dev_minor), inode })
    }
}

impl From<&fs::Metadata> for Image {
    fn from(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {:#x} inode {}", self.device, self.inode)
    }
}
