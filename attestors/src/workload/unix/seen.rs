//! [`Seen`]: processes whose executable was in place when they were first looked at.
//!
//! A package upgrade replaces the file of a running program. What was true when the process was first
//! seen stays true for as long as it lives; a process first seen without its file was never confirmed.
//! The memory is of processes and not of connections, since a process connects more than once; it is not
//! kept over a restart of the agent.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use peer::{Image, Process};

/// What was seen of a process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sight {
    /// What it ran. If it runs something else now, this is worth nothing.
    pub(super) image: Image,
    /// The path, if the agent saw the same file there.
    pub(super) path: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Seen {
    memory: Mutex<Memory>,
    most: usize,
}

#[derive(Debug)]
struct Memory {
    sights: HashMap<Process, Sight>,
    clear_at: usize,
}

impl Seen {
    pub(super) fn new(most: usize) -> Self {
        let memory = Memory { sights: HashMap::new(), clear_at: FIRST_CLEARING.min(most) };
        Self { memory: Mutex::new(memory), most }
    }

    /// What was seen of this process while it ran this image.
    pub(super) fn sight(&self, process: Process, image: Image) -> Option<Sight> {
        self.memory.lock().sights.get(&process).filter(|sight| sight.image == image).cloned()
    }

    /// Remembers it. The dead are forgotten each time that the living could have doubled, so that costs
    /// little for each process; the living are never forgotten in favour of others, or one user could
    /// wash out what is known of another's. May take some milliseconds, so not on an async thread.
    pub(super) fn remember(&self, process: Process, sight: Sight) {
        let crowd: Vec<Process> = {
            let mut memory = self.memory.lock();
            if memory.sights.len() < self.most || memory.sights.contains_key(&process) {
                memory.sights.insert(process, sight);
            }
            if memory.sights.len() < memory.clear_at {
                return;
            }
            memory.clear_at = usize::MAX; // one clears at a time
            memory.sights.keys().copied().collect()
        };
        // Without the lock: each question is a few system calls.
        let dead: Vec<Process> = crowd.into_iter().filter(|process| !process.is_alive()).collect();
        let mut memory = self.memory.lock();
        for process in dead {
            memory.sights.remove(&process);
        }
        memory.clear_at = (memory.sights.len() * 2).max(FIRST_CLEARING).min(self.most);
    }
}

const FIRST_CLEARING: usize = 1024;
