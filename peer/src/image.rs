//! Which program a process runs, as the kernel names it: device and inode of the executable.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, makedev, openat2, statx,
};

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

/// The file that a process runs, in the state in which its file system keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Exe {
    /// Which file.
    pub image: Image,
    /// How many bytes are in it.
    pub size: u64,
    /// When its content was changed, in seconds and nanoseconds.
    pub modified: (i64, i64),
    /// When anything about it was changed; its owner cannot set that back.
    pub changed: (i64, i64),
    /// Under how many names it lies.
    pub links: u32,
    /// Whether it is a regular file.
    pub is_regular: bool,
}

impl Exe {
    /// What the process with this /proc directory runs now. The file system is not asked for anything that it
    /// has to ask others for, so of one over a network or of a user the state may be an old one.
    pub(crate) fn of_process(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let found = ask(dir, Path::new("exe"), AtFlags::empty(), STATE)?;
        let time = |time: rustix::fs::StatxTimestamp| (time.tv_sec, i64::from(time.tv_nsec));
        Ok(Self {
            image: Image::of(&found),
            size: found.stx_size,
            modified: time(found.stx_mtime),
            changed: time(found.stx_ctime),
            links: found.stx_nlink,
            is_regular: FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile,
        })
    }
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

    /// The same if it can be told from what the kernel has in memory, so that no file system on the way is
    /// asked: an error may only mean that it cannot.
    pub fn at_path_at_once(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED)?;
        Self::look(file.as_fd(), Path::new(""), AtFlags::EMPTY_PATH, ASK)
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

    fn look(dir: BorrowedFd<'_>, path: &Path, flags: AtFlags, asked: StatxFlags) -> io::Result<Self> {
        let image = Self::of(&ask(dir, path, flags, asked)?);
        Ok(Self { inode: if asked.is_empty() { 0 } else { image.inode }, ..image })
    }

    fn of(found: &Statx) -> Self {
        let told = |what: StatxFlags| found.stx_mask & what.bits() != 0;
        Self {
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            born: told(StatxFlags::BTIME).then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec)),
        }
    }
}

fn ask(dir: BorrowedFd<'_>, path: &Path, flags: AtFlags, asked: StatxFlags) -> io::Result<Statx> {
    // DONT_SYNC: what names a file never changes, so a network or user-space file system need not be asked
    // for fresh attributes, and cannot make the accept loop wait for it.
    let flags = flags | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(dir, path, flags, asked)?;
    let needed = asked & !StatxFlags::BTIME;
    if found.stx_mask & needed.bits() != needed.bits() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(found)
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {:#x} inode {}", self.device, self.inode)
    }
}

const ASK: StatxFlags = StatxFlags::INO.union(StatxFlags::BTIME);
const STATE: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);
