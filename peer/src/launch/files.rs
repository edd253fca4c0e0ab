//! Reading files with the rights of the process that asks, and knowing which files only root can change.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};

/// A thread that looks at files as a user: whatever this user may not read, it may not have measured.
///
/// Linux keeps these ids for each thread. The thread must be the caller's own and end with its work, since
/// the supplementary groups stay the user's.
#[derive(Debug)]
pub struct AsUser {
    user: Option<(Uid, Gid)>,
}

impl AsUser {
    /// Prepares this thread. A process that is not root reads as itself, and may be asked by itself alone.
    pub fn on_this_thread(uid: u32, gid: u32, groups: &[u32]) -> io::Result<Self> {
        if !geteuid().is_root() {
            return if uid == geteuid().as_raw() {
                Ok(Self { user: None })
            } else {
                Err(io::Error::other(
                    "files of another user can be read by root alone; run the agent as root",
                ))
            };
        }
        let groups: Vec<_> = groups.iter().map(|group| rustix::process::Gid::from_raw(*group)).collect();
        rustix::thread::set_thread_groups(&groups)?;
        Ok(Self { user: Some((Uid::from_raw(uid), Gid::from_raw(gid))) })
    }

    /// Does something as the user. Without root's capabilities over files too: the kernel drops them with
    /// the user.
    pub fn act<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some((uid, gid)) = self.user else { return work() };
        let back = Back { gid: setfsgid(gid), uid: setfsuid(uid) };
        // The calls cannot fail visibly; asking once more tells who is acting.
        if setfsuid(uid) != uid || setfsgid(gid) != gid {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let done = work();
        drop(back);
        done
    }
}

/// Makes the thread act as before, whatever happened.
struct Back {
    uid: Uid,
    gid: Gid,
}

impl Drop for Back {
    fn drop(&mut self) {
        setfsuid(self.uid);
        setfsgid(self.gid);
    }
}

/// Whether only root can change what lies at this path: the file, and each directory and link on the way.
/// Where it is so, the path with all links resolved; else the place that somebody else can change.
pub fn is_fixed(path: &Path) -> io::Result<Result<PathBuf, PathBuf>> {
    let mut resolved = PathBuf::from("/");
    let mut ahead: Vec<PathBuf> = parts(path);
    ahead.reverse();
    let mut links = 0;
    if !belongs_to_root(&fs::symlink_metadata("/")?, true) {
        return Ok(Err(resolved));
    }
    while let Some(part) = ahead.pop() {
        if part.as_os_str() == ".." {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&part);
        let found = fs::symlink_metadata(&next)?;
        if found.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            if found.uid() != 0 {
                return Ok(Err(next));
            }
            let target = fs::read_link(&next)?;
            if target.is_absolute() {
                resolved = PathBuf::from("/");
            }
            ahead.extend(parts(&target).into_iter().rev());
            continue;
        }
        if !belongs_to_root(&found, !ahead.is_empty()) || served_by_a_process(&next)? {
            return Ok(Err(next));
        }
        resolved = next;
    }
    Ok(Ok(resolved))
}

/// Nobody but root may write to it, or, in a sticky directory on the way, remove what is root's.
fn belongs_to_root(found: &fs::Metadata, is_on_the_way: bool) -> bool {
    let mode = found.permissions().mode();
    let is_sticky = found.is_dir() && is_on_the_way && mode & 0o1000 != 0;
    found.uid() == 0 && (mode & 0o022 == 0 || is_sticky)
}

/// FUSE: its server says who owns what, and shows each reader what it likes.
fn served_by_a_process(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type as u64 == FUSE)
}

fn parts(path: &Path) -> Vec<PathBuf> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

const FUSE: u64 = 0x6573_5546;
const MOST_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_can_change_is_not_fixed_by_a_path_that_leads_there() {
        assert!(is_fixed(Path::new("/bin/sh")).expect("it is there").is_ok(), "a system program");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tool");
        fs::write(&file, "x").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o777)).expect("mode set");
        assert_eq!(is_fixed(&file).expect("it is there"), Err(file.clone()));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("../../../../../../../../../bin/sh", &link).expect("linked");
        assert_eq!(is_fixed(&link).expect("it is there").is_ok(), geteuid().is_root());
    }

    #[test]
    fn a_thread_reads_as_the_user_and_is_root_again_afterwards() {
        if !geteuid().is_root() {
            return;
        }
        std::thread::spawn(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("secret");
            fs::write(&file, "x").expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode set");
            let user = AsUser::on_this_thread(65534, 65534, &[]).expect("root may");
            let refused = user.act(|| fs::read(&file)).expect_err("another's secret");
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            fs::read(&file).expect("root again");
        })
        .join()
        .expect("no panic");
    }
}
