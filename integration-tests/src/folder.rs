//! A temporary directory whose path is short enough for Unix sockets.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Removed when dropped, with everything in it.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// A fresh one.
    #[must_use]
    pub fn new() -> Self {
        // Other users' processes must reach the public sockets in it; Writ protects the rest by itself.
        Self::within(Path::new("/tmp"))
    }

    /// A fresh one inside another folder, such as a tmpfs.
    #[must_use]
    pub fn within(parent: &Path) -> Self {
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("writ-").permissions(open).tempdir_in(parent);
        Self(folder.unwrap_or_else(|error| panic!("cannot write in {}: {error}", parent.display())))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A copy of a program in it, to be run as another program.
    pub fn copy(&self, program: &Path, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::copy(program, &path).expect("the folder is ours");
        path
    }

    /// Writes a file into it and says where.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).expect("the folder is ours");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}
