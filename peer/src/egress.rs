//! Where a process can send to: measured of its network namespace, through the held /proc directory.

use std::io;

use rustix::fs::{AtFlags, CWD, statat};

use crate::{Peer, status};

impl Peer {
    /// Whether its network namespace leads nowhere: no interface but the loopback, and no route. One that it
    /// shares with this process never counts as such. What it holds open from another namespace is not seen.
    pub fn is_cut_off(&self) -> io::Result<bool> {
        let theirs = statat(self.dir(), "ns/net", AtFlags::empty())?;
        let ours = statat(CWD, "/proc/self/ns/net", AtFlags::empty())?;
        if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
            return Ok(false);
        }
        let is_loopback_alone = has_only_loopback(&status::read_file(self.dir(), "net/dev")?);
        let has_route = has_route(&status::read_file(self.dir(), "net/route")?);
        // INVARIANT: what was read was read of the living; the files of a dead process answer nothing.
        Ok(is_loopback_alone && !has_route && self.alive())
    }
}

/// Two lines of headings, then `name: figures` for each interface.
fn has_only_loopback(dev: &str) -> bool {
    let mut names = dev.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    dev.lines().count() >= 2 && names.all(|name| name == "lo")
}

/// One line of headings, then a line for each route.
fn has_route(route: &str) -> bool {
    route.lines().skip(1).any(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: &str = "Inter-|   Receive\n face |bytes\n";

    #[test]
    fn only_a_loopback_leads_nowhere() {
        assert!(has_only_loopback(&format!("{HEADINGS}    lo: 0 0\n")));
        assert!(has_only_loopback(HEADINGS));
        assert!(!has_only_loopback(&format!("{HEADINGS}    lo: 0 0\n  eth0: 1 1\n")));
        assert!(!has_only_loopback(""), "nothing read proves nothing");
        assert!(!has_route("Iface\tDestination\n"));
        assert!(has_route("Iface\tDestination\neth0\t00000000\n"));
    }

    #[test]
    fn a_process_in_this_namespace_is_not_cut_off() {
        let own = Peer::open(std::process::id()).expect("this process");
        assert!(!own.is_cut_off().expect("readable"));
    }
}
