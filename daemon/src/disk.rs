//! Files and directories that nobody else may read.
//!
//! What is found looser than it should be is refused, never repaired in silence: somebody may have
//! read it already, and that is for the operator to judge.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::OFlag,
    sys::statfs::{TMPFS_MAGIC, statfs},
    unistd::geteuid,
};

/// The kernel's `sun_path` holds 108 bytes, the last of them zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// A file or directory that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may read or write it.
    #[error("{} is open to other users (mode {mode:04o}); if nobody unwelcome has read it, run: chmod {wanted:o} '{}'", path.display(), path.display())]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The loosest permissions it may have.
        wanted: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to uid {owner}, and this process is uid {own}; run: chown {own} '{}', or choose another directory", path.display(), path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        own: u32,
    },
    /// There is something else under the name.
    #[error("{} is not a {wanted}; move it away", path.display())]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
    },
    /// The file is larger than anything that belongs there.
    #[error("{} is larger than {limit} bytes; it is not a file of ours", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it may have.
        limit: u64,
    },
    /// Another living process holds the directory.
    #[error("{} is in use by another process{holder}; stop that one, or choose another directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// ` (pid N)` where it is known.
        holder: String,
    },
    /// A socket cannot have so long a path.
    #[error("the socket path {} has {} bytes, and the kernel allows {LONGEST_SOCKET_PATH}; choose a shorter directory", path.display(), path.as_os_str().len())]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
    },
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |source| DiskError::Io { action, path: path.to_owned(), source }
}

/// Replaces the file at `path` by one with these bytes, readable by its owner alone. After a crash
/// there is the old content or the new, whole.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    replace(path, bytes, 0o600)
}

/// Replaces the file at `path` by one with these bytes and this mode, in one step: readers see the
/// old content or the new, and after a return the new survives a crash.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError> {
    let directory = directory_of(path);
    let name = path.file_name().ok_or(DiskError::WrongKind { path: path.to_owned(), wanted: "file" })?;
    let mut temporary = directory.join(".new-");
    temporary.as_mut_os_string().push(name);
    // Left by a crash; only its owner can have put it here.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &temporary)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed("create", &temporary))?;
    // The umask may have taken bits away, and must not have a say.
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed("set the mode of", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("replace", path))?;
    sync_directory(directory)
}

/// Removes the file at `path` durably; one that is not there is no error.
pub fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(directory_of(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// Reads a file of ours with at most `limit` bytes; `None` where there is none. One that others may
/// read or write, a symbolic link, or somebody else's file is refused.
pub fn read_private(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
    let no_follow = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = match OpenOptions::new().read(true).custom_flags(no_follow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let metadata = file.metadata().map_err(failed("look at", path))?;
    if !metadata.is_file() {
        return Err(DiskError::WrongKind { path: path.to_owned(), wanted: "file" });
    }
    ours_and_closed(path, &metadata, 0o077, 0o600)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(DiskError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

/// Makes sure that there is a directory at `path` which only its owner, we, can enter.
pub fn private_dir(path: &Path) -> Result<(), DiskError> {
    directory(path, 0o700, 0o077)
}

/// Makes sure that there is a directory at `path` which everyone can enter and only we can change.
pub fn public_dir(path: &Path) -> Result<(), DiskError> {
    directory(path, 0o755, 0o022)
}

fn directory(path: &Path, mode: u32, forbidden: u32) -> Result<(), DiskError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // The umask may have taken bits away, and must not have a say.
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(failed("set the mode of", path))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("create", path)(error)),
    }
    let metadata = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if !metadata.is_dir() {
        return Err(DiskError::WrongKind { path: path.to_owned(), wanted: "directory" });
    }
    ours_and_closed(path, &metadata, forbidden, mode)
}

fn ours_and_closed(
    path: &Path,
    metadata: &fs::Metadata,
    forbidden: u32,
    wanted: u32,
) -> Result<(), DiskError> {
    let own = geteuid().as_raw();
    if metadata.uid() != own {
        return Err(DiskError::Foreign { path: path.to_owned(), owner: metadata.uid(), own });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(DiskError::TooOpen { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

/// Holds a directory against other processes until it is dropped or the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Takes the directory at `path` for this process alone, by a lock on the file `lock` in it.
pub fn lock_dir(path: &Path) -> Result<DirLock, DiskError> {
    let name = path.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&name)
        .map_err(failed("open", &name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let holder = holder_of(&mut file).map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            return Err(DiskError::Locked { path: path.to_owned(), holder });
        }
        Err(fs::TryLockError::Error(error)) => return Err(failed("lock", &name)(error)),
    }
    // Only for the sentence that a second process gets; the lock itself is the kernel's.
    let pid = std::process::id().to_string();
    file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(failed("write", &name))?;
    Ok(DirLock { _file: file })
}

fn holder_of(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether what is written under `path` stays in memory: only there may workload keys be kept.
pub fn is_memory_only(path: &Path) -> Result<bool, DiskError> {
    let figures = statfs(path).map_err(|errno| failed("look at the file system of", path)(errno.into()))?;
    Ok(figures.filesystem_type() == TMPFS_MAGIC)
}

/// Gives `path` back if a Unix socket can have it.
pub fn socket_path(path: PathBuf) -> Result<PathBuf, DiskError> {
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        return Err(DiskError::SocketPathTooLong { path });
    }
    Ok(path)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_private_file_comes_back_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        assert!(read_private(&path, 100).unwrap().is_none());
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_private(&path, 100).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn what_a_crash_left_does_not_stop_the_next_write() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".new-agent.key"), b"torn").unwrap();
        write_private(&dir.path().join("agent.key"), b"whole").unwrap();
        assert_eq!(read_private(&dir.path().join("agent.key"), 9).unwrap().unwrap(), b"whole");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_line_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mac.key");
        write_private(&path, b"secret").unwrap();
        chmod(&path, 0o640);
        let error = read_private(&path, 100).unwrap_err().to_string();
        assert!(
            error.contains("mode 0640") && error.contains(&format!("chmod 600 '{}'", path.display())),
            "{error}"
        );
    }

    #[test]
    fn a_link_and_an_endless_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("real");
        write_private(&path, &[7; 101]).unwrap();
        assert!(matches!(read_private(&path, 100), Err(DiskError::TooLarge { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_private(&link, 1000).is_err());
    }

    #[test]
    fn a_private_directory_is_made_closed_and_refused_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/server");
        private_dir(&path).unwrap();
        private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        chmod(&path, 0o750);
        let error = private_dir(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
        public_dir(&path).unwrap();
        chmod(&path, 0o777);
        assert!(public_dir(&path).unwrap_err().to_string().contains("chmod 755"));
    }

    #[test]
    fn a_directory_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let lock = lock_dir(dir.path()).unwrap();
        let error = lock_dir(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(lock);
        lock_dir(dir.path()).unwrap();
    }

    #[test]
    fn a_socket_path_has_107_bytes_at_most() {
        let path = |length: usize| PathBuf::from(format!("/{}", "a".repeat(length - 1)));
        assert!(socket_path(path(107)).is_ok());
        let error = socket_path(path(108)).unwrap_err().to_string();
        assert!(error.contains("108 bytes") && error.contains("107"), "{error}");
    }
}
