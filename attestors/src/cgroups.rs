//! What the text of /proc/PID/cgroup proves about a process: its container and its systemd unit. Pure.
//!
//! The kernel writes that text and a process cannot forge it, but whoever was given a cgroup of its own may
//! make children in it and name them as it likes. So a path is read from the root, and the first segment
//! that belongs to a container engine (or is a unit) decides; all below is whatever the container made of
//! it. What is not understood is [`Unclear`], with a reason, and gives no fact. /proc/PID/mountinfo is
//! never read: a process furnishes its mounts itself.
//!
//! One text has one line for each hierarchy: `0::/path` of cgroup v2, `4:memory:/path` of v1, and both on
//! hybrid hosts. Lines need not all lead to the container (an engine may leave a hierarchy alone), but
//! none may lead elsewhere.

mod container;
mod unit;

pub use container::{Container, ContainerId, Engine, Owner, PodUid};
pub use unit::Unit;

/// Where a process is in each hierarchy of cgroups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cgroups {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Line {
    /// `memory`, `cpu,cpuacct`, `name=systemd`; empty for cgroup v2.
    controllers: String,
    path: String,
}

/// Why the text proves nothing, in one sentence for an administrator.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Unclear(String);

impl Unclear {
    fn because(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl Cgroups {
    /// Reads the text of /proc/PID/cgroup as it was read from the agent's own namespace.
    pub fn parse(text: &str) -> Result<Self, Unclear> {
        if text.len() > LONGEST {
            return Err(Unclear::because(format!("the list of cgroups is longer than {LONGEST} bytes")));
        }
        let mut lines: Vec<Line> = Vec::new();
        // Not `lines`: a name may end in a carriage return, which belongs to it.
        for text in text.split('\n').filter(|line| !line.is_empty()) {
            let line = Line::parse(text)?;
            if lines.iter().any(|known| known.controllers == line.controllers) {
                let hierarchy = line.hierarchy();
                return Err(Unclear::because(format!("the hierarchy {hierarchy} is listed twice")));
            }
            if lines.len() == MOST_LINES {
                return Err(Unclear::because(format!("there are more than {MOST_LINES} hierarchies")));
            }
            lines.push(line);
        }
        Ok(Self { lines })
    }

    /// The container that the process is in; `None` if it is in none.
    ///
    /// The outermost one, where containers are nested: what is inside is its own affair.
    pub fn container(&self) -> Result<Option<Container>, Unclear> {
        container::of(&self.lines)
    }

    /// The unit of systemd that the process belongs to, if pid 1 is a systemd at the root of the cgroups;
    /// `None` if it belongs to none. What a unit makes below its own cgroup, or a user's manager below
    /// `user@N.service`, is still that unit.
    pub fn unit(&self) -> Result<Option<Unit>, Unclear> {
        unit::of(&self.lines, |_| Some(""))
    }

    /// The same, where `pid1` has the cgroups of the systemd in question, which need not be at the root
    /// (it is not in a container); `None` also for processes outside of what that systemd manages.
    pub fn unit_under(&self, pid1: &Self) -> Result<Option<Unit>, Unclear> {
        unit::of(&self.lines, |line| {
            let manager = pid1.lines.iter().find(|other| other.controllers == line.controllers)?;
            Some(unit::root_of_manager(&manager.path))
        })
    }

    /// The path in cgroup v2, where the host has it.
    pub fn unified(&self) -> Option<&str> {
        self.path("")
    }

    /// The path in the hierarchy of a v1 controller such as `memory`, or a named one (`name=systemd`).
    pub fn controller(&self, name: &str) -> Option<&str> {
        let mut lines = self.lines.iter().filter(|_| !name.is_empty());
        lines.find(|line| line.controllers.split(',').any(|one| one == name)).map(|line| line.path.as_str())
    }

    /// Every hierarchy with the path in it: its controllers, joined by commas (empty for v2), and the path.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|line| (line.controllers.as_str(), line.path.as_str()))
    }

    fn path(&self, controllers: &str) -> Option<&str> {
        self.lines.iter().find(|line| line.controllers == controllers).map(|line| line.path.as_str())
    }
}

impl Line {
    /// `hierarchy:controllers:path`; the path may hold colons of its own.
    fn parse(text: &str) -> Result<Self, Unclear> {
        let malformed = || Unclear::because("a line of its cgroups is not as Linux writes it");
        let mut parts = text.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        // Only v2 has no controllers in its line, and only v2 has the number 0.
        let number: u32 = number.parse().map_err(|_| malformed())?;
        if (number == 0) != controllers.is_empty() || !path.starts_with('/') {
            return Err(malformed());
        }
        let line = Self { controllers: controllers.to_owned(), path: path.to_owned() };
        let hierarchy = line.hierarchy();
        if path.ends_with(" (deleted)") {
            return Err(Unclear::because(format!("its cgroup in {hierarchy} has been removed")));
        }
        if line.segments().any(|segment| segment == "..") {
            return Err(Unclear::because(format!(
                "its cgroup in {hierarchy} is outside of the agent's cgroup namespace ({path}), so what lies \
                 above it is hidden; run the agent in the host's cgroup namespace"
            )));
        }
        if path != "/" && line.path[1..].split('/').any(|segment| matches!(segment, "" | ".")) {
            return Err(malformed());
        }
        Ok(line)
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter(|segment| !segment.is_empty())
    }

    /// What to call it in a sentence.
    fn hierarchy(&self) -> &str {
        if self.controllers.is_empty() { "cgroup v2" } else { &self.controllers }
    }

    /// Whether `other` is this very place or lies below it.
    fn leads_to(&self, other: &str) -> bool {
        self.path == "/" || other.strip_prefix(&self.path).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    }
}

/// What [`peer::Peer::cgroup`] reads at most.
const LONGEST: usize = 64 * 1024;
/// Linux has about a dozen controllers; named hierarchies come on top.
const MOST_LINES: usize = 64;

#[cfg(test)]
mod tests;
