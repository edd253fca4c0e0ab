//! Which processes have been told that they have no identity.
//!
//! The first time a process asks, it learns at once. When the same process asks again it has chosen
//! to wait for an identity, and its streams wait with it.

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
}
