//! What is remembered of launches over a restart of the agent: one file each in the agent's own directory.
//!
//! A launch is taken up again if the machine has not been booted since and its cgroup is still the very one: the
//! kernel numbers cgroups, never gives a number twice in one boot, and lets nobody but root put a process into
//! one of root's. What a restart loses is the command's exit code.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use daemon::{DiskError, disk, private_dir, read_private, write_private};
use peer::launch::Cgroup;
use serde::{Deserialize, Serialize};

/// A launch as it is kept.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Which boot of the machine it belongs to.
    boot: String,
    /// Its cgroup, and the kernel's number of it.
    cgroup: String,
    cgroup_id: u64,
    /// What its processes have.
    pub(super) values: Vec<String>,
    /// Whose it is.
    pub(super) uid: u32,
}

/// The records of all launches.
#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
    boot: String,
}

impl Records {
    pub(super) fn open(state: &Path) -> Result<Self, DiskError> {
        let dir = state.join("launches");
        private_dir(&dir)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { dir, boot: boot.trim().to_owned() })
    }

    /// Keeps a launch before it begins.
    pub(super) fn put(
        &self,
        name: &str,
        cgroup: &Cgroup,
        values: &[String],
        uid: u32,
    ) -> Result<(), DiskError> {
        let kept = Kept {
            boot: self.boot.clone(),
            cgroup: cgroup.path().to_owned(),
            cgroup_id: cgroup.id(),
            values: values.to_vec(),
            uid,
        };
        let json = serde_json::to_vec(&kept).unwrap_or_default();
        write_private(&self.dir.join(name), &json)
    }

    pub(super) fn remove(&self, name: &str) {
        if let Err(error) = disk::remove(&self.dir.join(name)) {
            tracing::warn!(%error, "the record of a launch could not be removed");
        }
    }

    /// Every launch that still goes on, by name; the records of all others are removed.
    pub(super) fn load(&self) -> io::Result<Vec<(String, Cgroup, Kept)>> {
        let mut going_on = Vec::new();
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            match self.read(&name) {
                Some((cgroup, kept)) => going_on.push((name, cgroup, kept)),
                None => self.remove(&name),
            }
        }
        Ok(going_on)
    }

    fn read(&self, name: &str) -> Option<(Cgroup, Kept)> {
        let bytes = read_private(&self.dir.join(name), MOST_BYTES).ok().flatten()?;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        let cgroup = Cgroup::find(&kept.cgroup).ok()?;
        let is_the_same = !self.boot.is_empty() && kept.boot == self.boot && cgroup.id() == kept.cgroup_id;
        if is_the_same && !cgroup.is_empty() {
            return Some((cgroup, kept));
        }
        if is_the_same {
            // Its last process ended while no agent was there.
            let _ = cgroup.remove();
        }
        None
    }
}

const MOST_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_of_another_boot_or_another_cgroup_is_forgotten() {
        let state = tempfile::tempdir().unwrap();
        // Making one takes root.
        let Ok(cgroup) = Cgroup::make_below("0::/", &hex::encode(rand::random::<[u8; 8]>())) else { return };
        let records = Records::open(state.path()).unwrap();
        let other = Records { dir: records.dir.clone(), boot: "another".into() };
        other.put("a", &cgroup, &["measurement:00".into()], 7).unwrap();
        records.put("b", &cgroup, &["measurement:00".into()], 7).unwrap();
        let text = fs::read_to_string(records.dir.join("b")).unwrap();
        let number = format!("\"cgroup_id\":{}", cgroup.id());
        write_private(&records.dir.join("b"), text.replace(&number, "\"cgroup_id\":7").as_bytes()).unwrap();
        write_private(&records.dir.join("c"), b"{").unwrap();
        assert!(records.load().unwrap().is_empty());
        assert!(cgroup.is_there(), "what is not known to be a launch is left alone");
        // The very cgroup of this boot, but nobody is in it any more.
        records.put("d", &cgroup, &["measurement:00".into()], 7).unwrap();
        assert!(records.load().unwrap().is_empty());
        assert!(!cgroup.is_there());
        assert_eq!(fs::read_dir(&records.dir).unwrap().count(), 0);
    }
}
