//! What is known of each process, from records in the order of their times.

use std::collections::HashMap;

use super::record::{File, Record, What};

/// What each process runs, bounded.
#[derive(Debug)]
pub(super) struct Memory {
    processes: HashMap<u32, Known>,
    most: usize,
}

/// What is known of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Known {
    runs: Runs,
    /// Until when it is known. A record from before that came too late.
    at: u64,
}

/// What a process runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Runs {
    /// It, or the process that it was forked from, was seen executing this.
    Executed(File),
    /// It was found running this; how that came about was not seen.
    Found(File),
    /// It is between two programs.
    Nothing,
    /// What was seen makes no sense.
    Unclear,
}

impl Memory {
    /// Of at most so many processes; of more nothing is known.
    pub(super) fn new(most: usize) -> Self {
        Self { processes: HashMap::new(), most }
    }

    /// What the process with this pid runs, if that is known.
    pub(super) fn runs(&self, pid: u32) -> Option<Runs> {
        self.processes.get(&pid).map(|known| known.runs)
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.processes.clear();
    }

    /// A process was found running this, some time after `at`.
    pub(super) fn found(&mut self, pid: u32, file: File, at: u64) {
        if !self.processes.contains_key(&pid) {
            self.put(pid, Known { runs: Runs::Found(file), at });
        }
    }

    /// Takes note of a record. They come sorted by time, but for what was written while they were read.
    pub(super) fn note(&mut self, record: Record) {
        let at = record.at;
        match record.what {
            What::Exec { pid } => {
                let too_late = self.processes.get(&pid).is_some_and(|known| at < known.at);
                let runs = if too_late { Runs::Unclear } else { Runs::Nothing };
                self.put(pid, Known { runs, at });
            }
            // INVARIANT: the kernel maps the program itself before its interpreter and before it lets any
            // code of it run, so the first file that is mapped is what was executed. What has no inode (an
            // executable stack) is no file.
            What::Map { pid, file } if file.inode != 0 => {
                if let Some(known) = self.processes.get_mut(&pid) {
                    if known.runs == Runs::Nothing && at >= known.at {
                        known.runs = Runs::Executed(file);
                    }
                    known.at = known.at.max(at);
                }
            }
            What::Fork { pid, parent } => match self.processes.get(&parent).copied() {
                Some(known) if at >= known.at => self.put(pid, Known { at, ..known }),
                Some(_) => self.put(pid, Known { runs: Runs::Unclear, at }),
                None => {
                    self.processes.remove(&pid);
                }
            },
            What::Exit { pid } => {
                self.processes.remove(&pid);
            }
            What::Lost => self.forget(),
            What::Map { .. } | What::Other => {}
        }
    }

    fn put(&mut self, pid: u32, known: Known) {
        if self.processes.len() < self.most || self.processes.contains_key(&pid) {
            self.processes.insert(pid, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: File = File { device: (8, 1), inode: 1 };
    const PROGRAM: File = File { device: (8, 1), inode: 2 };
    const LOADER: File = File { device: (8, 1), inode: 3 };
    const STACK: File = File { device: (0, 0), inode: 0 };

    fn after(steps: &[What]) -> Memory {
        let mut memory = Memory::new(4);
        for (at, what) in (10..).zip(steps) {
            memory.note(Record { at, what: *what });
        }
        memory
    }

    fn ran(pid: u32, program: File) -> [What; 4] {
        let map = |file| What::Map { pid, file };
        [What::Exec { pid }, map(STACK), map(program), map(LOADER)]
    }

    #[test]
    fn the_first_file_that_is_mapped_after_exec_is_what_was_executed() {
        assert_eq!(after(&ran(7, PROGRAM)).runs(7), Some(Runs::Executed(PROGRAM)));
        assert_eq!(after(&[What::Exec { pid: 7 }]).runs(7), Some(Runs::Nothing));
        assert_eq!(after(&ran(7, PROGRAM)[1..]).runs(7), None);
        let twice = [ran(7, SHELL), ran(7, PROGRAM)].concat();
        assert_eq!(after(&twice).runs(7), Some(Runs::Executed(PROGRAM)));
    }

    #[test]
    fn a_child_runs_what_its_parent_ran_until_it_executes() {
        let mut steps = ran(7, SHELL).to_vec();
        steps.push(What::Fork { pid: 8, parent: 7 });
        assert_eq!(after(&steps).runs(8), Some(Runs::Executed(SHELL)));
        steps.extend(ran(8, PROGRAM));
        assert_eq!(after(&steps).runs(8), Some(Runs::Executed(PROGRAM)));
        assert_eq!(after(&steps).runs(7), Some(Runs::Executed(SHELL)));
    }

    #[test]
    fn a_process_with_the_pid_of_one_that_ended_inherits_nothing_from_it() {
        let mut steps = ran(7, PROGRAM).to_vec();
        steps.push(What::Exit { pid: 7 });
        assert_eq!(after(&steps).runs(7), None);
        let mut steps = ran(7, PROGRAM).to_vec();
        steps.push(What::Fork { pid: 7, parent: 99 });
        assert_eq!(after(&steps).runs(7), None, "of its parent nothing is known");
    }

    #[test]
    fn what_was_found_gives_way_to_what_was_seen() {
        let mut memory = after(&ran(7, PROGRAM));
        memory.found(7, SHELL, 1);
        memory.found(8, SHELL, 1);
        assert_eq!(memory.runs(7), Some(Runs::Executed(PROGRAM)));
        assert_eq!(memory.runs(8), Some(Runs::Found(SHELL)));
        for what in ran(8, PROGRAM) {
            memory.note(Record { at: 99, what });
        }
        assert_eq!(memory.runs(8), Some(Runs::Executed(PROGRAM)));
    }

    #[test]
    fn what_comes_too_late_makes_a_process_unclear_and_what_is_lost_makes_all_unknown() {
        let mut memory = after(&ran(7, PROGRAM));
        memory.note(Record { at: 5, what: What::Exec { pid: 7 } });
        memory.note(Record { at: 6, what: What::Map { pid: 7, file: LOADER } });
        assert_eq!(memory.runs(7), Some(Runs::Unclear));
        memory.note(Record { at: 0, what: What::Lost });
        assert_eq!(memory.runs(7), None);
    }

    #[test]
    fn a_crowd_does_not_push_out_those_who_were_there() {
        let mut memory = after(&ran(7, PROGRAM));
        for pid in 100..1000 {
            memory.note(Record { at: 50, what: What::Exec { pid } });
        }
        assert_eq!(memory.processes.len(), 4);
        assert_eq!(memory.runs(7), Some(Runs::Executed(PROGRAM)));
    }
}
