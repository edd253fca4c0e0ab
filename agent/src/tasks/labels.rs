//! What each isolation domain may remember, kept over its tasks and over a restart of the agent.
//!
//! [`DomainLabels`] has the rule; here the kernel names processes and cgroups, and the disk keeps what was raised before
//! anybody relies on it. What is on disk counts for this boot of the machine only: afterwards every process is new.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use authz::labels::DomainLabels;
use daemon::{DiskError, private_dir, read_private, write_private};
use parking_lot::Mutex;
use peer::{
    Peer,
    launch::{Cgroup, PREFIX},
};
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
    /// Those with a label of their own.
    processes: HashSet<ProcessName>,
    /// The same as it is to be on disk.
    kept: Vec<Raised>,
    /// It is not on disk yet, because the disk would not take it.
    is_owed: bool,
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
                kept.raised.iter().for_each(|raised| inner.raise(raised));
                inner.kept = kept.raised;
            }
        }
        Ok(Self { path, boot, inner: Mutex::new(inner) })
    }

    /// What this process may remember: its own label and those of its living parents; where it is not known, that of
    /// the cgroups around it.
    ///
    /// Nobody can say for certain whose child a process is: fork events of the kernel name the parent that a child has,
    /// which is another one than forked it where that asked for it (CLONE_PARENT), and parents die. So whatever lives
    /// where a task was may remember what that has read. A launch was given its label when it began, so what is
    /// around it does not matter.
    pub(crate) fn of(&self, peer: &Peer) -> io::Result<Label> {
        if self.inner.lock().kept.is_empty() {
            return Ok(Label::default());
        }
        let (process, cgroup) = (process_name(peer)?, cgroup_name(peer)?);
        let parents = parents(peer);
        let inner = self.inner.lock();
        let mut label = inner.known.of(&process, &cgroup);
        if !inner.processes.contains(&process) {
            label = around(&cgroup).fold(label, |label, above| label.join(&inner.known.of_cgroup(&above)));
        }
        let known = parents.iter().filter(|parent| inner.processes.contains(parent));
        Ok(known.fold(label, |label, parent| label.join(&inner.known.of(parent, &cgroup))))
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
            let mut inner = self.inner.lock();
            return if inner.is_owed { self.write(&mut inner) } else { Ok(()) };
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

    /// Whether everything that was raised is on disk.
    pub(crate) fn are_kept(&self) -> bool {
        !self.inner.lock().is_owed
    }

    /// The cgroup of a launch begins with what its asker may remember: it was started from inside of that.
    pub(crate) fn begin(&self, cgroup: &Cgroup, label: &Label) -> io::Result<()> {
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
        // In memory first: it counts for this process even where it cannot be kept.
        inner.raise(&raised);
        inner.kept.push(raised);
        self.write(&mut inner)
    }

    fn write(&self, inner: &mut Inner) -> io::Result<()> {
        inner.is_owed = true;
        let json = serde_json::to_vec(&OnDisk { boot: self.boot.clone(), raised: inner.kept.clone() })?;
        write_private(&self.path, &json).map_err(io::Error::other)?;
        inner.is_owed = false;
        Ok(())
    }

    /// Forgets processes that have ended and cgroups that are no more, when tasks end.
    pub(crate) fn forget_the_dead(&self) {
        let mut inner = self.inner.lock();
        let is_there = |(path, id): &CgroupName| match Cgroup::find(path) {
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

impl Inner {
    fn raise(&mut self, raised: &Raised) {
        self.processes.extend(raised.processes.iter().copied());
        self.known.raise_all(&raised.cgroup, &raised.processes, &raised.label);
    }
}

/// The processes above one that live still, as far as they can be held.
fn parents(peer: &Peer) -> Vec<ProcessName> {
    let (mut found, mut at) = (Vec::new(), peer.parent().ok().flatten());
    while let Some(parent) = at.filter(|_| found.len() < MOST_PARENTS) {
        match process_name(&parent) {
            Ok(name) => found.push(name),
            Err(_) => break,
        }
        at = parent.parent().ok().flatten();
    }
    found
}

fn process_name(peer: &Peer) -> io::Result<ProcessName> {
    Ok((peer.pid(), peer.start_time()?))
}

/// The innermost cgroup of a process, with its number where it can be found.
fn cgroup_name(peer: &Peer) -> io::Result<CgroupName> {
    let text = peer.cgroup()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
    let id = Cgroup::find(&path).map(|cgroup| cgroup.id()).unwrap_or(0);
    Ok((path, id))
}

/// The cgroups around one, up to and with the innermost launch.
fn around((path, _): &CgroupName) -> impl Iterator<Item = CgroupName> {
    let mut above = Vec::new();
    let mut path = path.as_str();
    while !is_launch(path)
        && let Some((up, _)) = path.rsplit_once('/')
        && !up.is_empty()
    {
        path = up;
        if let Ok(cgroup) = Cgroup::find(path) {
            above.push((path.to_owned(), cgroup.id()));
        }
    }
    above.into_iter()
}

fn is_launch(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with(PREFIX))
}

fn unreadable(path: &Path, error: serde_json::Error) -> DiskError {
    DiskError::Io { action: "read", path: path.to_owned(), source: io::Error::other(error) }
}

const MOST_PARENTS: usize = 64;
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
        // A child of it, wherever that lives, may know what it knows.
        let labels = Labels::open(dir.path()).unwrap();
        labels.raise(&Domain::process(own), &secret()).unwrap();
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert_eq!(labels.of(&Peer::open(child.id()).unwrap()).unwrap(), secret());
        drop(child.stdin.take());
        child.wait().unwrap();
        fs::write(&path, "{").unwrap();
        assert!(Labels::open(dir.path()).is_err(), "a label is not forgotten because it cannot be read");
    }
}
