//! What each isolation domain may remember, kept over its tasks and over a restart of the agent.
//!
//! [`DomainLabels`] has the rule; here the kernel names processes and cgroups, and the disk keeps what was raised before
//! anybody relies on it. What is on disk counts for this boot of the machine only: afterwards every process is new.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use authz::labels::DomainLabels;
use daemon::{DiskError, private_dir, read_private, write_private};
use parking_lot::Mutex;
use peer::Peer;
use registry::scope::Label;
use serde::{Deserialize, Serialize};

use super::Domain;

/// The labels of this node's domains.
#[derive(Debug)]
pub(crate) struct Labels {
    path: PathBuf,
    boot: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: DomainLabels<ProcessName, CgroupName>,
    /// The same as it is on disk.
    kept: Vec<Raised>,
}

/// Number and start of a process, so that no later one is meant.
type ProcessName = (u32, u64);
/// Path and number of a cgroup. The number is 0 where only its path is known.
type CgroupName = (String, u64);

/// One raise.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Raised {
    processes: Vec<ProcessName>,
    cgroup: CgroupName,
    label: Label,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    boot: String,
    raised: Vec<Raised>,
}

impl Labels {
    /// What was kept of this boot.
    pub(crate) fn open(state: &Path) -> Result<Self, DiskError> {
        let dir = state.join("tasks");
        private_dir(&dir)?;
        let path = dir.join(FILE);
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let mut inner = Inner::default();
        if let Some(bytes) = read_private(&path, MOST_BYTES)? {
            // INVARIANT: a label that was kept is not lost because its file cannot be read.
            let kept: OnDisk = serde_json::from_slice(&bytes).map_err(|error| unreadable(&path, error))?;
            if kept.boot == boot {
                kept.raised.iter().for_each(|raised| {
                    inner.known.raise_all(&raised.cgroup, &raised.processes, &raised.label)
                });
                inner.kept = kept.raised;
            }
        }
        Ok(Self { path, boot, inner: Mutex::new(inner) })
    }

    /// What this process may remember: its own label, or where nobody knows whose child it is, its cgroup's.
    pub(crate) fn of(&self, peer: &Peer) -> io::Result<Label> {
        let (process, cgroup) = (process_name(peer)?, cgroup_name(peer)?);
        let inner = self.inner.lock();
        Ok(around(&cgroup).fold(inner.known.of(&process, &cgroup), |label, above| {
            label.join(&inner.known.of_cgroup(&above))
        }))
    }

    /// What this domain may remember, which is what its processes may.
    pub(crate) fn of_domain(&self, domain: &Domain) -> io::Result<Label> {
        if let Some(peer) = domain.group() {
            return self.of(peer);
        }
        let own = domain
            .as_cgroup()
            .map(|cgroup| self.inner.lock().known.of_cgroup(&(cgroup.path().to_owned(), cgroup.id())));
        let members = domain.processes();
        members.iter().try_fold(own.unwrap_or_default(), |label, peer| Ok(label.join(&self.of(peer)?)))
    }

    /// Joins a label into a domain, durably.
    pub(crate) fn raise(&self, domain: &Domain, label: &Label) -> io::Result<()> {
        if label.is_within(&self.of_domain(domain)?) {
            return Ok(());
        }
        let mut processes = Vec::new();
        for peer in domain.processes() {
            match process_name(&peer) {
                Ok(name) => processes.push(name),
                Err(_) if !peer.alive() => {}
                Err(error) => return Err(error),
            }
        }
        let cgroup = match (domain.as_cgroup(), domain.group()) {
            (Some(cgroup), _) => (cgroup.path().to_owned(), cgroup.id()),
            (None, Some(peer)) => cgroup_name(peer)?,
            (None, None) => return Ok(()),
        };
        self.keep(Raised { processes, cgroup, label: label.clone() })
    }

    /// The cgroup of a launch begins with what its asker may remember: it was started from inside of that.
    pub(crate) fn begin(&self, cgroup: &peer::launch::Cgroup, label: &Label) -> io::Result<()> {
        if *label == Label::default() {
            return Ok(());
        }
        self.keep(Raised {
            processes: Vec::new(),
            cgroup: (cgroup.path().to_owned(), cgroup.id()),
            label: label.clone(),
        })
    }

    fn keep(&self, raised: Raised) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let mut kept = inner.kept.clone();
        kept.push(raised.clone());
        let json = serde_json::to_vec(&OnDisk { boot: self.boot.clone(), raised: kept.clone() })?;
        // In memory first: it counts for this process even where it cannot be kept.
        inner.known.raise_all(&raised.cgroup, &raised.processes, &raised.label);
        write_private(&self.path, &json).map_err(io::Error::other)?;
        inner.kept = kept;
        Ok(())
    }

    /// Forgets processes that have ended and cgroups that are no more, when tasks end.
    pub(crate) fn forget_the_dead(&self) {
        let mut inner = self.inner.lock();
        let is_there = |(path, id): &CgroupName| match peer::launch::Cgroup::find(path) {
            Ok(found) => *id == 0 || found.id() == *id,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        let gone: Vec<_> = inner
            .kept
            .iter()
            .map(|raised| raised.cgroup.clone())
            .filter(|cgroup| !is_there(cgroup))
            .collect();
        for cgroup in gone {
            inner.known.cgroup_gone(&cgroup);
            inner.kept.retain(|raised| raised.cgroup != cgroup);
        }
    }
}

fn process_name(peer: &Peer) -> io::Result<ProcessName> {
    Ok((peer.pid(), peer.start_time()?))
}

/// The innermost cgroup of a process, with its number where it can be found.
fn cgroup_name(peer: &Peer) -> io::Result<CgroupName> {
    let text = peer.cgroup()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
    let id = peer::launch::Cgroup::find(&path).map(|cgroup| cgroup.id()).unwrap_or(0);
    Ok((path, id))
}

/// The launches and containers around a cgroup: whatever is below one of those is of it.
fn around((path, _): &CgroupName) -> impl Iterator<Item = CgroupName> {
    let mut above = Vec::new();
    let mut path = path.as_str();
    while let Some((up, _)) = path.rsplit_once('/').filter(|(up, _)| !up.is_empty()) {
        path = up;
        let is_domain = up.rsplit('/').next().is_some_and(|name| name.starts_with(peer::launch::PREFIX));
        if is_domain && let Ok(cgroup) = peer::launch::Cgroup::find(up) {
            above.push((up.to_owned(), cgroup.id()));
        }
    }
    above.into_iter()
}

fn unreadable(path: &Path, error: serde_json::Error) -> DiskError {
    DiskError::Io { action: "read", path: path.to_owned(), source: io::Error::other(error) }
}

const FILE: &str = "labels.json";
const MOST_BYTES: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn secret() -> Label {
        Label { confidentiality: 2.try_into().unwrap(), ..Label::default() }
    }

    #[test]
    fn a_label_outlives_the_agent_and_not_the_boot() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let own = Arc::new(Peer::open(std::process::id()).unwrap());
        let labels = Labels::open(dir.path()).unwrap();
        assert_eq!(labels.of(&own).unwrap(), Label::default());
        labels.raise(&Domain::process(own.clone()), &secret()).unwrap();
        drop(labels);
        assert_eq!(Labels::open(dir.path()).unwrap().of(&own).unwrap(), secret());
        let path = dir.path().join("tasks").join(FILE);
        let other_boot = fs::read_to_string(&path).unwrap().replace("\"boot\":\"", "\"boot\":\"x");
        fs::write(&path, other_boot).unwrap();
        assert_eq!(Labels::open(dir.path()).unwrap().of(&own).unwrap(), Label::default());
        fs::write(&path, "{").unwrap();
        assert!(Labels::open(dir.path()).is_err(), "a label is not forgotten because it cannot be read");
    }
}
