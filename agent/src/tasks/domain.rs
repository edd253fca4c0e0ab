//! Isolation domains: what holds the processes of a task together. Who is a member the kernel is asked each time.

use std::{io, sync::Arc};

use peer::{Peer, Process, launch::Cgroup};
use registry::scope::{Egress, Isolation};
use serde::{Deserialize, Serialize};

/// The kernel object that holds a task.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    held: Held,
    /// Its processes act for another task too, so the two cannot be told apart.
    shared: bool,
}

#[derive(Clone, Debug)]
enum Held {
    /// One thread group: its threads, and neither what it forks nor what it becomes.
    Group(Arc<Peer>),
    /// Every process in a cgroup that only this agent or a container runtime can populate.
    Cgroup(Cgroup),
}

/// A domain's name, which no later one has: how it is found again, and what its label is remembered by.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// A thread group.
    Process {
        /// Its number.
        pid: u32,
        /// When it started, in clock ticks since boot.
        start_time: u64,
    },
    /// A cgroup of the unified hierarchy.
    Cgroup {
        /// Where it is.
        path: String,
        /// The kernel's number of it, never given twice in one boot.
        id: u64,
    },
}

impl Domain {
    /// The thread group of this process.
    pub(crate) fn process(peer: Arc<Peer>) -> Self {
        Self { held: Held::Group(peer), shared: false }
    }

    /// The same, of a process that acts for another task besides.
    pub(crate) fn shared(peer: Arc<Peer>) -> Self {
        Self { held: Held::Group(peer), shared: true }
    }

    /// Every process of this cgroup.
    pub(crate) fn cgroup(cgroup: Cgroup) -> Self {
        Self { held: Held::Cgroup(cgroup), shared: false }
    }

    /// The one of this name, if it is still the very one.
    pub(crate) fn find(place: &Place, shared: bool) -> Option<Self> {
        let held = match place {
            Place::Process { pid, start_time } => {
                let peer = Peer::open(*pid).ok()?;
                // Alive afterwards, so the number was this process's when the time was read.
                let is_same = peer.start_time().is_ok_and(|found| found == *start_time) && peer.alive();
                is_same.then(|| Held::Group(Arc::new(peer)))?
            }
            Place::Cgroup { path, id } => {
                let cgroup = Cgroup::find(path).ok().filter(|found| found.id() == *id)?;
                (!cgroup.is_empty()).then_some(Held::Cgroup(cgroup))?
            }
        };
        Some(Self { held, shared })
    }

    /// Its name.
    pub(crate) fn place(&self) -> io::Result<Place> {
        Ok(match &self.held {
            Held::Group(peer) => Place::Process { pid: peer.pid(), start_time: peer.start_time()? },
            Held::Cgroup(cgroup) => Place::Cgroup { path: cgroup.path().to_owned(), id: cgroup.id() },
        })
    }

    /// How well it is apart from others.
    pub(crate) fn isolation(&self) -> Isolation {
        match (&self.held, self.shared) {
            (_, true) => Isolation::Shared,
            (Held::Group(_), false) => Isolation::Process,
            (Held::Cgroup(_), false) => Isolation::Cgroup,
        }
    }

    /// Whether this process is in it at this moment.
    pub(crate) fn has(&self, peer: &Peer) -> bool {
        match &self.held {
            Held::Group(group) => group.process() == peer.process() && group.check().is_ok(),
            Held::Cgroup(cgroup) => peer.cgroup().is_ok_and(|text| cgroup.holds(&text)) && peer.alive(),
        }
    }

    /// The thread group that it is.
    pub(crate) fn group(&self) -> Option<&Arc<Peer>> {
        match &self.held {
            Held::Group(peer) => Some(peer),
            Held::Cgroup(_) => None,
        }
    }

    /// The cgroup that it is.
    pub(crate) fn as_cgroup(&self) -> Option<&Cgroup> {
        match &self.held {
            Held::Cgroup(cgroup) => Some(cgroup),
            Held::Group(_) => None,
        }
    }

    /// Its processes at this moment, as far as they can be held.
    pub(crate) fn processes(&self) -> Vec<Arc<Peer>> {
        match &self.held {
            Held::Group(peer) => vec![peer.clone()],
            Held::Cgroup(cgroup) => {
                let all = cgroup.processes().unwrap_or_default();
                all.into_iter()
                    .filter_map(|pid| Peer::open(pid).ok())
                    .map(Arc::new)
                    .filter(|peer| self.has(peer))
                    .collect()
            }
        }
    }

    /// Where its processes can send to, all of them: `confined` only if each is cut off. What cannot be read is open.
    pub(crate) fn egress(&self) -> Egress {
        let processes = match &self.held {
            Held::Group(peer) => vec![peer.clone()],
            Held::Cgroup(cgroup) => {
                let Ok(numbers) = cgroup.processes() else { return Egress::Open };
                let held = numbers.iter().map(|pid| Peer::open(*pid).map(Arc::new));
                // One that cannot be held may have ended; then it sends nothing. Or it cannot be read, and may.
                let Ok(held) = held
                    .filter(|held| !matches!(held, Err(peer::PinError::Gone)))
                    .collect::<Result<Vec<_>, _>>()
                else {
                    return Egress::Open;
                };
                held
            }
        };
        match processes.is_empty() || processes.iter().any(|peer| egress_of(peer) == Egress::Open) {
            true => Egress::Open,
            false => Egress::Confined,
        }
    }

    /// The process that it is pinned to, for counting and finding.
    pub(crate) fn process_name(&self) -> Option<Process> {
        self.group().map(|peer| peer.process())
    }
}

/// Where one process can send to.
pub(crate) fn egress_of(peer: &Peer) -> Egress {
    if peer.is_cut_off().unwrap_or(false) { Egress::Confined } else { Egress::Open }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn own() -> Arc<Peer> {
        Arc::new(Peer::open(std::process::id()).unwrap())
    }

    #[test]
    fn a_thread_group_has_itself_and_not_what_it_forks() {
        let domain = Domain::process(own());
        assert!(domain.has(&own()));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let held = Peer::open(child.id()).unwrap();
        assert!(!domain.has(&held));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!Domain::process(Arc::new(held)).has(&own()));
    }

    #[test]
    fn a_thread_group_is_found_again_by_number_and_start() {
        let place = Domain::process(own()).place().unwrap();
        assert!(Domain::find(&place, false).is_some_and(|found| found.has(&own())));
        let Place::Process { pid, start_time } = place else { panic!("a process") };
        assert!(Domain::find(&Place::Process { pid, start_time: start_time + 1 }, false).is_none());
    }

    #[test]
    fn a_process_beside_the_agent_can_send_anywhere() {
        assert_eq!(Domain::process(own()).egress(), Egress::Open);
        assert_eq!(Domain::shared(own()).isolation(), Isolation::Shared);
    }
}
