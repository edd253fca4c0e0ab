//! What is known of each process, from records in the order of their times.

use std::collections::HashMap;

use super::record::{File, Record, What};

/// What each process runs, bounded.
#[derive(Debug)]
pub(super) struct Memory {
    processes: HashMap<u32, Known>,
    most: usize,
    /// Whether something happened of which nothing is known, so that who is unknown may have executed
    /// anything.
    has_gaps: bool,
    /// Until when maps may have gone unrecorded.
    unmapped_until: u64,
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
    /// It may have executed something while records were lost, or what was seen makes no sense.
    Unclear,
    /// It was never heard of.
    Unknown,
}

impl Memory {
    /// Of at most so many processes; of more nothing is known.
    pub(super) fn new(most: usize) -> Self {
        Self { processes: HashMap::new(), most, has_gaps: false, unmapped_until: 0 }
    }

    /// What the process with this pid runs.
    pub(super) fn runs(&self, pid: u32) -> Runs {
        let unknown = if self.has_gaps { Runs::Unclear } else { Runs::Unknown };
        self.processes.get(&pid).map_or(unknown, |known| known.runs)
    }

    /// Whether a map in this process says what it executed.
    pub(super) fn awaits_map(&self, pid: u32) -> bool {
        self.processes.get(&pid).is_some_and(|known| known.runs == Runs::Nothing)
    }

    /// Records of programs and processes were lost: whatever is known may have changed.
    pub(super) fn forget(&mut self) {
        self.processes.clear();
        self.has_gaps = true;
    }

    /// Records of maps were lost, which were of `until` at the latest. Who is between two programs then, or
    /// executes one until then, cannot be told; whoever did not execute anything still runs what it ran.
    pub(super) fn doubt(&mut self, until: u64) {
        self.unmapped_until = self.unmapped_until.max(until);
        for known in self.processes.values_mut().filter(|known| known.runs == Runs::Nothing) {
            known.runs = Runs::Unclear;
        }
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
                let untold = too_late || at <= self.unmapped_until;
                let runs = if untold { Runs::Unclear } else { Runs::Nothing };
                self.put(pid, Known { runs, at });
            }
            // INVARIANT: the kernel maps the program itself before its interpreter and before it lets any
            // code of it run, so the first file that is mapped is what was executed. But if code can run
            // without any file, as from an executable stack, a program with nothing to be mapped could
            // choose what is mapped first.
            What::Map { pid, file } => {
                if let Some(known) = self.processes.get_mut(&pid) {
                    if known.runs == Runs::Nothing && at >= known.at {
                        known.runs = if file.inode == 0 { Runs::Unclear } else { Runs::Executed(file) };
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
            What::Other => {}
        }
    }

    fn put(&mut self, pid: u32, known: Known) {
        if self.processes.len() < self.most || self.processes.contains_key(&pid) {
            self.processes.insert(pid, known);
        } else {
            self.has_gaps = true;
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
        [What::Exec { pid }, map(program), map(LOADER), map(STACK)]
    }

    #[test]
    fn the_first_file_that_is_mapped_after_exec_is_what_was_executed() {
        assert_eq!(after(&ran(7, PROGRAM)).runs(7), Runs::Executed(PROGRAM));
        assert_eq!(after(&[What::Exec { pid: 7 }]).runs(7), Runs::Nothing);
        assert_eq!(after(&ran(7, PROGRAM)[1..]).runs(7), Runs::Unknown);
        let twice = [ran(7, SHELL), ran(7, PROGRAM)].concat();
        assert_eq!(after(&twice).runs(7), Runs::Executed(PROGRAM));
    }

    #[test]
    fn a_child_runs_what_its_parent_ran_until_it_executes() {
        let mut steps = ran(7, SHELL).to_vec();
        steps.push(What::Fork { pid: 8, parent: 7 });
        assert_eq!(after(&steps).runs(8), Runs::Executed(SHELL));
        steps.extend(ran(8, PROGRAM));
        assert_eq!(after(&steps).runs(8), Runs::Executed(PROGRAM));
        assert_eq!(after(&steps).runs(7), Runs::Executed(SHELL));
    }

    #[test]
    fn a_process_with_the_pid_of_one_that_ended_inherits_nothing_from_it() {
        let mut steps = ran(7, PROGRAM).to_vec();
        steps.push(What::Exit { pid: 7 });
        assert_eq!(after(&steps).runs(7), Runs::Unknown);
        let mut steps = ran(7, PROGRAM).to_vec();
        steps.push(What::Fork { pid: 7, parent: 99 });
        assert_eq!(after(&steps).runs(7), Runs::Unknown, "of its parent nothing is known");
    }

    #[test]
    fn what_was_found_gives_way_to_what_was_seen() {
        let mut memory = after(&ran(7, PROGRAM));
        memory.found(7, SHELL, 1);
        memory.found(8, SHELL, 1);
        assert_eq!(memory.runs(7), Runs::Executed(PROGRAM));
        assert_eq!(memory.runs(8), Runs::Found(SHELL));
        for what in ran(8, PROGRAM) {
            memory.note(Record { at: 99, what });
        }
        assert_eq!(memory.runs(8), Runs::Executed(PROGRAM));
    }

    #[test]
    fn what_comes_too_late_makes_a_process_unclear_and_what_is_lost_makes_all_unknown() {
        let mut memory = after(&ran(7, PROGRAM));
        memory.note(Record { at: 5, what: What::Exec { pid: 7 } });
        memory.note(Record { at: 6, what: What::Map { pid: 7, file: LOADER } });
        assert_eq!(memory.runs(7), Runs::Unclear);
        memory.note(Record { at: 0, what: What::Lost });
        assert_eq!([7, 8].map(|pid| memory.runs(pid)), [Runs::Unclear; 2], "who knows what they executed");
        memory.note(Record { at: 90, what: What::Fork { pid: 8, parent: 7 } });
        assert_eq!(memory.runs(8), Runs::Unclear);
        for what in ran(8, PROGRAM) {
            memory.note(Record { at: 99, what });
        }
        assert_eq!(memory.runs(8), Runs::Executed(PROGRAM), "who executes something is known again");
    }

    #[test]
    fn a_program_with_an_executable_stack_may_have_chosen_what_is_mapped_first() {
        let steps =
            [What::Exec { pid: 7 }, What::Map { pid: 7, file: STACK }, What::Map { pid: 7, file: PROGRAM }];
        assert_eq!(after(&steps).runs(7), Runs::Unclear);
    }

    #[test]
    fn lost_maps_make_unclear_only_who_executed_something_meanwhile() {
        let mut steps = ran(7, PROGRAM).to_vec();
        steps.push(What::Exec { pid: 8 });
        let mut memory = after(&steps);
        memory.doubt(50);
        for (at, pid) in [(40, 9), (51, 10)] {
            for what in ran(pid, SHELL) {
                memory.note(Record { at, what });
            }
        }
        memory.note(Record { at: 60, what: What::Map { pid: 8, file: PROGRAM } });
        assert_eq!(memory.runs(7), Runs::Executed(PROGRAM));
        assert_eq!([8, 9].map(|pid| memory.runs(pid)), [Runs::Unclear; 2]);
        assert_eq!(memory.runs(10), Runs::Executed(SHELL));
    }

    #[test]
    fn a_crowd_does_not_push_out_those_who_were_there() {
        let mut memory = after(&ran(7, PROGRAM));
        for pid in 100..1000 {
            memory.note(Record { at: 50, what: What::Exec { pid } });
        }
        assert_eq!(memory.processes.len(), 4);
        assert_eq!(memory.runs(999), Runs::Unclear, "there was no room to remember it");
        assert_eq!(memory.runs(7), Runs::Executed(PROGRAM));
    }
}
