//! Where copies lie: a folder of the agent's, and in it one for each launch that only its user may look into.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    sys::statvfs::{FsFlags, statvfs},
    unistd::geteuid,
};
use peer::launch::is_fixed;

/// The folder of all copies.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Why nothing can be run from it.
    pub(super) unfit: Option<String>,
    /// Whether the file system forbids to execute.
    pub(super) is_noexec: bool,
}

impl Folder {
    /// Makes it, and says what it is not fit for. Without root, everything can be measured and nothing run.
    pub(super) fn open(path: &Path) -> Self {
        let made = DirBuilder::new().mode(0o711).recursive(true).create(path);
        let made = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o711)));
        let unfit = match (made, is_fixed(path)) {
            (Err(error), _) | (_, Err(error)) => Some(format!("cannot make {}: {error}; choose another launch.dir", path.display())),
            _ if !geteuid().is_root() => Some(
                "the agent does not run as root, so it cannot keep other processes of its user out of a cgroup, nor \
                 their hands from the files that it measured; run the agent as root, or use --measure-only"
                    .to_owned(),
            ),
            (_, Ok(Err(place))) => Some(format!(
                "others than root can change {}, so nothing that is copied to {} is safe; choose another launch.dir",
                place.display(),
                path.display()
            )),
            (_, Ok(Ok(_))) => None,
        };
        let is_noexec = statvfs(path).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC));
        Self { path: path.to_owned(), unfit, is_noexec }
    }

    /// A new folder for one launch of this user, and its name. There must be room for `most` bytes, and some
    /// for others, since users decide what is copied here: as much again, or a twentieth of a small disk.
    pub(super) fn add(&self, uid: u32, most: u64) -> io::Result<(String, PathBuf)> {
        let room = statvfs(&self.path)?;
        let size = |blocks: u64| blocks.saturating_mul(room.fragment_size());
        let (free, needed) =
            (size(room.blocks_available()), most.saturating_add(most.min(size(room.blocks()) / 20)));
        if free < needed {
            let told = format!(
                "{} has {} MiB free and {} MiB are needed; free some, or choose another launch.dir",
                self.path.display(),
                free >> 20,
                needed >> 20
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, told));
        }
        let name = hex::encode(rand::random::<[u8; 16]>());
        let path = self.path.join(&name);
        DirBuilder::new().mode(0o700).create(&path)?;
        if uid != geteuid().as_raw() {
            rustix::fs::setxattr(
                &path,
                c"system.posix_acl_access",
                &list(uid),
                rustix::fs::XattrFlags::empty(),
            )?;
        }
        Ok((name, path))
    }

    /// Removes the folder of a launch, and all in it.
    pub(super) fn remove(&self, name: &str) {
        let path = self.path.join(name);
        if let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "the copies of a launch could not be removed");
        }
    }

    /// The names of all folders that are there.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// An access control list as the kernel keeps it: the owner may do everything, this user may look, others
/// nothing. The user's group will not do: who else is in it is not known.
fn list(uid: u32) -> Vec<u8> {
    const UNDEFINED: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 7, UNDEFINED),
        (0x02, 5, uid),
        (0x04, 0, UNDEFINED),
        (0x10, 5, UNDEFINED),
        (0x20, 0, UNDEFINED),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
