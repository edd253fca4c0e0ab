//! What is kept of tasks over a restart of the agent: one file each, until the server knows that it has ended.
//!
//! A task goes on only if its domain is still the very one, in the same boot of the machine. Keys are not here: a task
//! that goes on gets a new one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use daemon::{DiskError, disk, private_dir, read_private, write_private};
use peer::launch::Cgroup;
use registry::{
    objects::{Reason, Task, TaskId},
    scope::Isolation,
};
use serde::{Deserialize, Serialize};
use spiffe::Timestamp;

use super::{Domain, Live, book::Entered, domain::Place, live::Measured};

/// The files.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
    boot: String,
}

/// A task as it is kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    boot: String,
    place: Place,
    shared: bool,
    /// What the server granted.
    pub(crate) grant: Task,
    /// The same, as it signed it.
    pub(crate) signed: String,
    /// By what its processes were known.
    pub(crate) measured: Measured,
    /// What the server has not been told yet.
    pub(crate) untold: Option<Untold>,
    /// It is over and the server knows, but its cgroup is there still: its processes are of no other task.
    #[serde(default)]
    pub(crate) spent: bool,
}

/// An end or a suspension that took effect here.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Untold {
    /// Whether it is over, or only suspended.
    pub(crate) ended: bool,
    /// Why.
    pub(crate) reason: Reason,
    /// When.
    pub(crate) at: Timestamp,
}

impl Kept {
    /// The cgroup that held it, if it is there still.
    pub(super) fn cgroup(&self) -> Option<Cgroup> {
        match &self.place {
            Place::Cgroup { path, id } => Cgroup::find(path).ok().filter(|found| found.id() == *id),
            Place::Process { .. } => None,
        }
    }
}

impl Untold {
    /// It is over.
    pub(crate) fn ended(reason: Reason, at: Timestamp) -> Self {
        Self { ended: true, reason, at }
    }
}

impl Records {
    /// The records of this agent.
    pub(crate) fn open(state: &Path) -> Result<Self, DiskError> {
        let dir = state.join("tasks").join("live");
        private_dir(&state.join("tasks"))?;
        private_dir(&dir)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { dir, boot: boot.trim().to_owned() })
    }

    /// Keeps a task before it begins.
    pub(super) fn begin(&self, task: &Entered) -> io::Result<()> {
        self.write(&Kept {
            boot: self.boot.clone(),
            place: task.place.clone(),
            shared: task.domain.isolation() == Isolation::Shared,
            grant: Task::clone(&task.grant),
            signed: task.signed.as_ref().to_owned(),
            measured: task.measured.clone(),
            untold: None,
            spent: false,
        })
    }

    /// Keeps a task as it stands.
    pub(crate) fn put(&self, live: &Live, untold: Option<Untold>) -> io::Result<()> {
        let kept = Kept {
            boot: self.boot.clone(),
            place: live.place.clone(),
            shared: live.domain.isolation() == Isolation::Shared,
            grant: Task::clone(&live.grant),
            signed: live.signed.as_ref().to_owned(),
            measured: live.measured.clone(),
            untold,
            spent: false,
        };
        self.write(&kept)
    }

    /// Keeps the end of a task that is not taken up again.
    pub(super) fn end(&self, kept: Kept, untold: Untold) -> io::Result<()> {
        self.write(&Kept { untold: Some(untold), ..kept })
    }

    /// The place of a kept task, for whoever takes it up again.
    pub(super) fn place(kept: &Kept) -> Place {
        kept.place.clone()
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let json = serde_json::to_vec(kept)?;
        write_private(&self.dir.join(kept.grant.id.as_str()), &json).map_err(io::Error::other)
    }

    /// The server knows that it has ended. It is remembered for as long as its cgroup is there.
    pub(crate) fn settle(&self, id: &TaskId) {
        let kept = self.read(&self.dir.join(id.as_str()));
        match kept.filter(|kept| kept.cgroup().is_some()) {
            Some(kept) => {
                if let Err(error) = self.write(&Kept { untold: None, spent: true, ..kept }) {
                    tracing::warn!(task = %id, %error, "an end will be told once more");
                }
            }
            None => self.remove(id),
        }
    }

    pub(super) fn remove(&self, id: &TaskId) {
        if let Err(error) = disk::remove(&self.dir.join(id.as_str())) {
            tracing::warn!(%error, task = %id, "the record of a task could not be removed");
        }
    }

    /// Everything that is kept, parents before children.
    pub(crate) fn load(&self) -> io::Result<Vec<Kept>> {
        let mut all = Vec::new();
        for file in fs::read_dir(&self.dir)?.flatten() {
            match self.read(&file.path()) {
                Some(kept) => all.push(kept),
                // The server ends it with its time.
                _ => {
                    tracing::warn!(path = %file.path().display(), "ignored the record of a task that cannot be read")
                }
            }
        }
        all.sort_by(|a, b| (a.grant.depth, &a.grant.id).cmp(&(b.grant.depth, &b.grant.id)));
        Ok(all)
    }

    fn read(&self, path: &Path) -> Option<Kept> {
        serde_json::from_slice(&read_private(path, MOST_BYTES).ok().flatten()?).ok()
    }

    /// The domain of a kept task, if it is still the very one.
    pub(crate) fn domain(&self, kept: &Kept) -> Option<Domain> {
        let same_boot = !self.boot.is_empty() && kept.boot == self.boot;
        same_boot.then(|| Domain::find(&kept.place, kept.shared)).flatten()
    }
}

const MOST_BYTES: u64 = 4 * 1024 * 1024;
