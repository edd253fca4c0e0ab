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
#[derive(Clone, Debug)]
pub(super) struct Sight {
    /// What it ran. If it runs something else now, this is worth nothing.
    pub(super) image: Image,
    /// The path, if the agent saw the same file there.
    pub(super) path: Option<Arc<str>>,
    /// The type of its file system, if that file system answers by itself.
    pub(super) local: Option<u64>,
}

impl Sight {
    fn says(&self, other: &Self) -> bool {
        self.image.is(&other.image) && (&self.path, self.local) == (&other.path, other.local)
    }
}

#[derive(Debug)]
pub(super) struct Seen {
    memory: Mutex<Memory>,
    most: usize,
}

#[derive(Debug)]
struct Memory {
    sights: HashMap<Process, Sight>,
    /// How many more are taken note of until the dead are looked for.
    until_clearing: usize,
}

impl Seen {
    pub(super) fn new(most: usize) -> Self {
        let memory = Memory { sights: HashMap::new(), until_clearing: CLEARING.min(most) };
        Self { memory: Mutex::new(memory), most }
    }

    /// What was seen of this process while it ran this image.
    pub(super) fn sight(&self, process: Process, image: Image) -> Option<Sight> {
        self.memory.lock().sights.get(&process).filter(|sight| sight.image.is(&image)).cloned()
    }

    /// The same as [`Self::remember`] if it takes no time; false if it would.
    pub(super) fn remember_at_once(&self, process: Process, sight: Sight) -> bool {
        let mut memory = self.memory.lock();
        if memory.sights.get(&process).is_some_and(|known| known.says(&sight)) {
            return true;
        }
        let has_room = memory.sights.len() < self.most || memory.sights.contains_key(&process);
        let is_quick = has_room && memory.until_clearing > 1;
        if is_quick {
            memory.sights.insert(process, sight);
            memory.until_clearing -= 1;
        }
        is_quick
    }

    /// Remembers it, if there is room: the living are never forgotten in favour of others, or one user
    /// could wash out what is known of another's. May take milliseconds, so not on an async thread.
    pub(super) fn remember(&self, process: Process, sight: Sight) {
        let crowd: Vec<Process> = {
            let mut memory = self.memory.lock();
            if memory.sights.get(&process).is_some_and(|known| known.says(&sight)) {
                return;
            }
            if memory.sights.len() < self.most || memory.sights.contains_key(&process) {
                memory.sights.insert(process, sight);
            }
            memory.until_clearing = memory.until_clearing.saturating_sub(1);
            if memory.until_clearing > 0 {
                return;
            }
            memory.until_clearing = usize::MAX; // one thread clears at a time
            memory.sights.keys().copied().collect()
        };
        // Without the lock, since each question is a few system calls.
        let dead: Vec<Process> = crowd.into_iter().filter(|process| !process.is_alive()).collect();
        let mut memory = self.memory.lock();
        for process in dead {
            memory.sights.remove(&process);
        }
        // As many newcomers as there are survivors pay for the next clearing: two questions for each.
        memory.until_clearing = memory.sights.len().max(CLEARING.min(self.most));
    }
}

const CLEARING: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use peer::Peer;
    use std::process::{Child, Command, Stdio};

    fn start() -> (Child, Process, Sight) {
        let child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat starts");
        let peer = Peer::open(child.id()).expect("held");
        (child, peer.process(), Sight { image: peer.image(), path: Some("/cat".into()), local: None })
    }

    fn end(mut child: Child) {
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    #[test]
    fn the_dead_are_forgotten_and_the_living_are_not() {
        let seen = Seen::new(8);
        let (living, process, sight) = start();
        seen.remember(process, sight.clone());
        for _ in 0..30 {
            let (child, process, sight) = start();
            seen.remember(process, sight);
            end(child);
            assert!(seen.memory.lock().sights.len() <= 8);
        }
        assert!(seen.sight(process, sight.image).is_some_and(|known| known.says(&sight)));
        let another = Image::at_path(std::path::Path::new("/")).expect("it exists");
        assert!(seen.sight(process, another).is_none(), "of another image nothing is known");
        end(living);
    }

    #[test]
    fn a_crowd_of_the_living_keeps_its_place_and_newcomers_go_without() {
        let seen = Seen::new(3);
        let crowd: Vec<_> = (0..5).map(|_| start()).collect();
        for (_, process, sight) in &crowd {
            seen.remember(*process, sight.clone());
        }
        let known = |n: usize| seen.sight(crowd[n].1, crowd[n].2.image).is_some();
        assert!(known(0) && known(1) && known(2) && !known(3) && !known(4));
        crowd.into_iter().for_each(|(child, ..)| end(child));
    }
}
