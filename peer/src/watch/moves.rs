//! Moves between cgroups: a process moves when its number is written into a file of a cgroup, which
//! fanotify tells of, for every mount of the hierarchy at once.

use std::{fs, io, os::fd::AsFd, path::PathBuf, sync::Arc};

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use tokio::io::Interest;

use crate::ready::{self, Readable};

/// Marks on every cgroup hierarchy that is mounted here.
#[derive(Debug)]
pub(super) struct Moves {
    events: Readable,
}

impl Moves {
    /// Marks them.
    pub(super) fn open() -> Result<Self, String> {
        let failed = |doing: &str, error: nix::Error| {
            format!("cannot {doing} with fanotify: {error}; it takes root of the host (CAP_SYS_ADMIN)")
        };
        let flags = InitFlags::FAN_CLASS_NOTIF
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::from_bits_retain(libc::FAN_REPORT_FID);
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY)
            .map_err(|error| failed("watch for moves between cgroups", error))?;
        let hierarchies = hierarchies().map_err(|error| format!("cannot list the cgroup mounts: {error}"))?;
        if hierarchies.is_empty() {
            return Err("no cgroup hierarchy is mounted here".to_owned());
        }
        for hierarchy in &hierarchies {
            let mark = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
            group
                .mark(mark, MaskFlags::FAN_MODIFY, nix::fcntl::AT_FDCWD, Some(hierarchy))
                .map_err(|error| failed(&format!("watch {}", hierarchy.display()), error))?;
        }
        let events = ready::watch(Arc::new(group.into()))
            .map_err(|error| format!("cannot watch for moves between cgroups: {error}"))?;
        Ok(Self { events })
    }

    /// Returns when something may have been written.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.events.readable().await.map(drop)
    }

    /// Whether anything has been written since this was last asked. What, and of whom, is not told: each
    /// process that matters is looked at.
    pub(super) fn take(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut any = false;
        // Whoever writes without end must not keep this from everything else; the rest is read next time.
        for _ in 0..READS_AT_ONCE {
            let read = self
                .events
                .try_io(Interest::READABLE, |group| Ok(rustix::io::read(group.as_fd(), &mut buffer)?));
            if !matches!(read, Ok(1..)) {
                break;
            }
            any = true;
        }
        any
    }
}

/// Where hierarchies are mounted. A second mount of one costs a second mark, and nothing else.
fn hierarchies() -> io::Result<Vec<PathBuf>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// `36 35 98:0 /root /mount/point options optional - type source options`
fn parse(mountinfo: &str) -> Vec<PathBuf> {
    let mount = |line: &str| {
        let (mount, about) = line.split_once(" - ")?;
        let is_cgroup = matches!(about.split(' ').next()?, "cgroup" | "cgroup2");
        // A space in a name is written as \040; nobody mounts cgroups there.
        is_cgroup.then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    };
    mountinfo.lines().filter_map(mount).collect()
}

const READS_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_and_nothing_else() {
        let mountinfo = "24 1 0:21 / /proc rw,nosuid - proc proc rw\n\
                         30 29 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
                         31 29 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\nnonsense\n - cgroup\n";
        let found = parse(mountinfo);
        assert_eq!(found, ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"].map(PathBuf::from));
    }
}
