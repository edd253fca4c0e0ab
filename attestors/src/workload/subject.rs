//! [`Subject`]: a process while it is attested.

use std::{fmt, io, sync::Arc, sync::OnceLock};

use peer::{Peer, Status};

use crate::{
    Evidence,
    cgroups::{Cgroups, Container, Unclear, Unit},
};

/// A process while it is attested. What several attestors need of it is read once, when the first of them
/// asks, so that all of them speak of one moment.
pub struct Subject {
    peer: Arc<Peer>,
    status: OnceLock<io::Result<Status>>,
    cgroup: OnceLock<Whereabouts>,
}

struct Whereabouts {
    text: io::Result<String>,
    cgroups: Result<Cgroups, Unclear>,
}

impl Subject {
    /// Nothing has been read yet.
    pub fn new(peer: Arc<Peer>) -> Self {
        Self { peer, status: OnceLock::new(), cgroup: OnceLock::new() }
    }

    /// The process.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Its groups and its tracer; `None`, with a note, if they cannot be read.
    pub fn status(&self, evidence: &mut Evidence) -> Option<&Status> {
        match self.status.get_or_init(|| self.peer.status()) {
            Ok(status) => Some(status),
            Err(error) => {
                evidence.note_for_now(format!("cannot read its status: {error}"));
                None
            }
        }
    }

    /// Its cgroups; `None`, with a note, if they cannot be read or prove nothing.
    pub fn cgroups(&self, evidence: &mut Evidence) -> Option<&Cgroups> {
        let whereabouts = self.whereabouts();
        match (&whereabouts.text, &whereabouts.cgroups) {
            (Err(error), _) => evidence.note_for_now(format!("cannot read its cgroups: {error}")),
            (Ok(_), Err(unclear)) => evidence.note(unclear.to_string()),
            (Ok(_), Ok(cgroups)) => return Some(cgroups),
        }
        None
    }

    /// The container that it is in, where that is clear; why it is not becomes a note.
    pub fn container(&self, evidence: &mut Evidence) -> Option<Container> {
        clear(self.cgroups(evidence)?.container(), evidence)
    }

    /// The unit of systemd that it belongs to, where that is clear; why it is not becomes a note. `pid1` is
    /// where that systemd is, if it is not at the root.
    pub fn unit(&self, pid1: Option<&Cgroups>, evidence: &mut Evidence) -> Option<Unit> {
        let cgroups = self.cgroups(evidence)?;
        clear(pid1.map_or_else(|| cgroups.unit(), |pid1| cgroups.unit_under(pid1)), evidence)
    }

    fn whereabouts(&self) -> &Whereabouts {
        self.cgroup.get_or_init(|| {
            let text = self.peer.cgroup();
            let cgroups = text.as_deref().map_or_else(|_| Cgroups::parse(""), Cgroups::parse);
            Whereabouts { text, cgroups }
        })
    }
}

fn clear<T>(found: Result<Option<T>, Unclear>, evidence: &mut Evidence) -> Option<T> {
    found.unwrap_or_else(|unclear| {
        evidence.note(unclear.to_string());
        None
    })
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}
