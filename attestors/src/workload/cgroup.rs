//! `cgroup`: where a process is in the tree of cgroups. What SPIRE lacks.
//!
//! | selector | is | strength |
//! |---|---|---|
//! | `cgroup:path:PATH` | its cgroup in cgroup v2 | kernel |
//! | `cgroup:id:N` | the number of that cgroup, which no other gets before the next boot | kernel |
//! | `cgroup:v1:HIERARCHY:PATH` | its cgroup in a hierarchy of v1, by each of its controllers (`memory`) or its name (`name=systemd`) | kernel |
//!
//! Whoever was given a cgroup may make others below it, so a path says what its owners say, from the root
//! down to the first that was given away.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    sync::OnceLock,
};

use async_trait::async_trait;
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};

use crate::{Evidence, Strength, Subject, Wanted, WorkloadAttestor};

/// The attestor.
#[derive(Debug, Default)]
pub struct Cgroup {
    /// The root of cgroup v2, as it was found when it was first needed.
    root: OnceLock<Option<OwnedFd>>,
}

impl Cgroup {
    /// Has looked at nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn id(&self, path: &str) -> io::Result<Option<u64>> {
        let Some(root) = self.root.get_or_init(|| root().ok().flatten()) else { return Ok(None) };
        let below = match path.trim_start_matches('/') {
            "" => ".",
            below => below,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(root.as_fd(), below, flags, Mode::empty())?;
        Ok(Some(fstat(directory)?.st_ino))
    }
}

#[async_trait]
impl WorkloadAttestor for Cgroup {
    fn name(&self) -> &'static str {
        KIND
    }

    async fn attest(&self, subject: &Subject, wanted: &Wanted) -> Evidence {
        let mut evidence = Evidence::default();
        if !["path", "id", "v1"].iter().any(|fact| wanted.asks(KIND, fact)) {
            return evidence;
        }
        let Some(cgroups) = subject.cgroups(&mut evidence) else { return evidence };
        if let Some(path) = cgroups.unified() {
            if wanted.asks(KIND, "path") {
                evidence.add(KIND, &format!("path:{path}"), "cgroup", Strength::Kernel);
            }
            if wanted.asks(KIND, "id") {
                match self.id(path) {
                    Ok(Some(id)) => {
                        evidence.add(KIND, &format!("id:{id}"), "number of the cgroup", Strength::Kernel)
                    }
                    Ok(None) => {
                        evidence.note("no cgroup id: cgroup v2 is mounted nowhere that the agent sees")
                    }
                    Err(error) => evidence.note_for_now(format!("no cgroup id: {path}: {error}")),
                }
            }
        }
        if wanted.asks(KIND, "v1") {
            for (controllers, path) in cgroups.paths().filter(|(controllers, _)| !controllers.is_empty()) {
                for controller in controllers.split(',') {
                    let value = format!("v1:{controller}:{path}");
                    evidence.add(KIND, &value, "cgroup in a hierarchy of v1", Strength::Kernel);
                }
            }
        }
        evidence
    }
}

/// The directory of the root cgroup, by the agent's own mounts.
fn root() -> io::Result<Option<OwnedFd>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let Some(path) = mounts.lines().find_map(root_in) else { return Ok(None) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Some(openat(CWD, path, flags, Mode::empty())?))
}

/// `36 35 0:31 / /sys/fs/cgroup rw … - cgroup2 cgroup2 rw`: mounted with its root, and not a part of it.
fn root_in(line: &str) -> Option<&str> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let (root, path) = (fields.nth(3)?, fields.next()?);
    (root == "/" && file_system.starts_with("cgroup2 ")).then_some(path)
}

const KIND: &str = "cgroup";
