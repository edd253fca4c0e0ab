//! Which processes have been told that they have no identity.
//!
//! The first time a process asks, it learns at once. When the same process asks again it has chosen
//! to wait for an identity, and its streams wait with it. Once it has been served that is forgotten: if
//! it loses its identities, it learns that at once too.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use peer::Process;

/// Processes that are remembered for each user. What is forgotten is refused at once once more.
const PROCESSES_PER_UID: usize = 256;
const USERS: usize = 1024;

/// Remembers refusals, for as many processes as it has room for.
#[derive(Default)]
pub(crate) struct Refused(Mutex<Users>);

#[derive(Default)]
struct Users {
    processes: HashMap<u32, VecDeque<Process>>,
    order: VecDeque<u32>,
}

impl Refused {
    /// Notes a refusal. Gives back whether it is the first one of this process.
    pub(crate) fn is_first(&self, uid: u32, process: Process) -> bool {
        let mut users = self.0.lock();
        let users = &mut *users;
        let known = users.processes.entry(uid).or_insert_with(|| {
            users.order.push_back(uid);
            VecDeque::new()
        });
        if known.contains(&process) {
            return false;
        }
        if known.len() == PROCESSES_PER_UID {
            known.pop_front();
        }
        known.push_back(process);
        if users.order.len() > USERS
            && let Some(oldest) = users.order.pop_front()
        {
            users.processes.remove(&oldest);
        }
        true
    }

    /// Forgets a refusal: the process has been served.
    pub(crate) fn forget(&self, uid: u32, process: Process) {
        if let Some(known) = self.0.lock().processes.get_mut(&uid) {
            known.retain(|refused| *refused != process);
        }
    }
}

#[cfg(test)]
mod tests {
    use peer::Peer;

    use super::*;

    #[test]
    fn a_process_that_was_served_is_refused_at_once_when_it_has_nothing_again() {
        let refused = Refused::default();
        let process = Peer::open(std::process::id()).unwrap().process();
        assert!(refused.is_first(7, process));
        assert!(!refused.is_first(7, process));
        refused.forget(7, process);
        assert!(refused.is_first(7, process));
    }
}
