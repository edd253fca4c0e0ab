//! [`Executions`]: what each process really executed, as the kernel recorded it when it did.
//!
//! A process can make its `/proc/PID/exe` link point at another program (`PR_SET_MM_MAP` in a user namespace
//! of its own). So the link alone proves little. The kernel's perf events record, while a program is
//! executed and before any of its code runs, which file is mapped; nobody else can write such a record, and
//! nobody waits for this process to read it. Whoever makes records without end may make some of them be lost:
//! then whatever was executed at that time is unclear, and what did not execute anything stays known. `docs/decisions/0018-what-was-executed.md` says
//! what else was considered.

mod memory;
mod record;
mod ring;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fs, io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::prctl,
};
use rustix::{
    fs::statfs,
    time::{ClockId, clock_gettime},
};

use self::{
    memory::{Memory, Runs},
    record::{File, Record, What, parse},
    ring::{Of, Ring},
};
use crate::{Image, Peer};

/// Remembers what processes executed while this exists.
#[derive(Debug)]
pub struct Executions {
    state: Mutex<State>,
    lost: AtomicU64,
    unclear: AtomicU64,
}

/// What is to be thought of the executable of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Execution {
    /// The kernel recorded that this process, or the one that it was forked from, executed this very file.
    Seen,
    /// Nothing is known: it began before the records did, or its file system names files otherwise than the
    /// records do.
    NotSeen,
    /// It may have executed something while records were lost, or in a way in which they do not tell what
    /// (with an executable stack).
    Unclear,
    /// It executed another file. Its link is a lie.
    Another,
}

#[derive(Debug)]
struct State {
    /// Of programs and processes, by processor.
    tasks: HashMap<u32, Ring>,
    /// Of files that were mapped.
    maps: HashMap<u32, Ring>,
    /// Of the maps of all processors.
    room: usize,
    processors: String,
    bytes: Vec<u8>,
    /// Read, and not yet in order.
    waiting: Vec<Record>,
    memory: Memory,
}

impl Executions {
    /// Asks for the records of every processor, and starts a thread that reads them. Fails, with what to
    /// tell an administrator, where the kernel does not give them.
    pub fn open() -> Result<Arc<Self>, String> {
        let executions = Self::read_when_asked(ROOM_OF_ALL)?;
        let reader = Arc::downgrade(&executions);
        let named = thread::Builder::new().name("executions".to_owned());
        named.spawn(move || keep_reading(&reader)).map_err(failed)?;
        Ok(executions)
    }

    /// The same without that thread, and with so many bytes for maps that have been recorded and not yet read:
    /// the kernel has more to tell than fits whenever nobody has asked for long.
    pub fn read_when_asked(room: usize) -> Result<Arc<Self>, String> {
        let mut state = State {
            tasks: HashMap::new(),
            maps: HashMap::new(),
            room,
            processors: String::new(),
            bytes: Vec::new(),
            waiting: Vec::new(),
            memory: Memory::new(PROCESSES),
        };
        let processors = fs::read_to_string(PROCESSORS).map_err(failed)?;
        state.open_rings(processors).map_err(failed)?;
        // This gives a thread the name that it has, which is recorded like anybody's.
        let renamed = prctl::get_name().and_then(|name| prctl::set_name(&name));
        renamed.map_err(|error| failed(error.into()))?;
        let mut heard = false;
        state.tasks.values_mut().for_each(|ring| {
            let _ = ring.read(&mut state.bytes);
            heard |= !state.bytes.is_empty();
        });
        if !heard {
            return Err("the kernel's records of executed programs (perf events) stay empty".to_owned());
        }
        state.bytes.clear();
        state.survey();
        let [lost, unclear] = [0, 0].map(AtomicU64::new);
        Ok(Arc::new(Self { state: Mutex::new(state), lost, unclear }))
    }

    /// What is to be thought of the executable of this peer, of which `image` and the type of its
    /// `file_system` were read. Read them before asking: whatever was executed before has been recorded by now.
    pub fn of(&self, peer: &Peer, image: Image, file_system: u64) -> Execution {
        let mut state = self.lock();
        self.judge(&mut state, peer, image, file_system)
    }

    /// The same, if it can be said without waiting and without reading much.
    pub fn at_once(&self, peer: &Peer, image: Image, file_system: u64) -> Option<Execution> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let unread: usize = state.tasks.values().chain(state.maps.values()).map(Ring::unread).sum();
        (unread <= LITTLE).then(|| self.judge(&mut state, peer, image, file_system))
    }

    fn judge(&self, state: &mut State, peer: &Peer, image: Image, file_system: u64) -> Execution {
        self.read(state);
        if !COMPARABLE.contains(&file_system) {
            return Execution::NotSeen;
        }
        let runs = state.memory.runs(peer.pid());
        // The pid was this process's all the time only if it still lives.
        if !peer.alive() {
            return Execution::NotSeen;
        }
        let file = file_of(image);
        match runs {
            Runs::Executed(ran) if ran == file => Execution::Seen,
            Runs::Found(ran) if ran == file => Execution::NotSeen,
            Runs::Executed(_) | Runs::Found(_) => Execution::Another,
            Runs::Unknown => Execution::NotSeen,
            Runs::Unclear | Runs::Nothing => {
                self.unclear.fetch_add(1, Relaxed);
                Execution::Unclear
            }
        }
    }

    /// How often records were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// How often it was unclear what a process had executed.
    pub fn unclear(&self) -> u64 {
        self.unclear.load(Relaxed)
    }

    fn read(&self, state: &mut State) {
        if !state.read() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Rings for these processors, where there are none yet.
    fn open_rings(&mut self, processors: String) -> io::Result<()> {
        let numbers =
            listed(&processors).ok_or_else(|| io::Error::other(format!("no list: {processors}")))?;
        let room = (self.room / numbers.len().max(1)).clamp(LEAST_ROOM, MOST_ROOM);
        let room = 1 << room.ilog2();
        self.tasks.retain(|number, _| numbers.contains(number));
        self.maps.retain(|number, _| numbers.contains(number));
        for number in numbers {
            if let Entry::Vacant(vacant) = self.tasks.entry(number) {
                vacant.insert(Ring::open(number, room / 2, Of::Tasks)?);
            }
            if let Entry::Vacant(vacant) = self.maps.entry(number) {
                vacant.insert(Ring::open(number, room, Of::Maps)?);
            }
        }
        self.processors = processors;
        Ok(())
    }

    /// Takes note of everything that was recorded until now. False if something was lost.
    fn read(&mut self) -> bool {
        let until = now();
        let [mut tasks_are_whole, mut maps_are_whole] = [true; 2];
        let mut executing = HashSet::new();
        for ring in self.tasks.values_mut() {
            self.bytes.clear();
            tasks_are_whole &= ring.read(&mut self.bytes);
            parse(&self.bytes, |record| match record.what {
                What::Lost => tasks_are_whole = false,
                What::Other => {}
                _ => self.waiting.push(record),
            });
        }
        if !tasks_are_whole {
            self.waiting.clear();
            self.memory.forget();
        }
        executing.extend(self.waiting.iter().filter_map(|record| match record.what {
            What::Exec { pid } => Some(pid),
            _ => None,
        }));
        for ring in self.maps.values_mut() {
            self.bytes.clear();
            maps_are_whole &= ring.read(&mut self.bytes);
            parse(&self.bytes, |record| match record.what {
                What::Lost => maps_are_whole = false,
                // Most maps are of libraries, or of who makes maps without end. What came after the
                // rings above were read may be of an exec that is not known yet.
                What::Map { pid, .. }
                    if record.at > until || executing.contains(&pid) || self.memory.awaits_map(pid) =>
                {
                    self.waiting.push(record);
                }
                _ => {}
            });
        }
        if !maps_are_whole {
            self.memory.doubt(now());
        }
        // Each processor has rings of its own, so what came later on one may be read before what came
        // earlier on another: that is done next time.
        self.waiting.sort_by_key(|record| record.at);
        let ripe = self.waiting.partition_point(|record| record.at <= until);
        self.waiting.drain(..ripe).for_each(|record| self.memory.note(record));
        tasks_are_whole && maps_are_whole
    }

    /// Looks up what runs. It proves nothing about how that came about, but whoever runs something else
    /// later without having executed it is found out.
    fn survey(&mut self) {
        let Ok(processes) = fs::read_dir("/proc") else { return };
        for process in processes.flatten() {
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let at = now();
            let exe = process.path().join("exe");
            // A disk under it, or nothing is asked: a file system that a process serves might not answer.
            let Ok(image) = Image::at_path(&exe) else { continue };
            if rustix::fs::major(image.device) != 0
                && statfs(&exe).is_ok_and(|about| COMPARABLE.contains(&(about.f_type as u64)))
            {
                self.memory.found(pid, file_of(image), at);
            }
        }
    }

    /// Processors come and go, and each needs rings. Whatever happened on a new one before it had some is
    /// lost; whether any did is the answer.
    fn follow_processors(&mut self) -> bool {
        let Some(processors) = fs::read_to_string(PROCESSORS).ok().filter(|now| *now != self.processors)
        else {
            return false;
        };
        let known = self.tasks.len();
        if let Err(error) = self.open_rings(processors) {
            tracing::warn!(%error, "a processor came or went, and executed programs are no longer seen");
            self.tasks.clear();
            self.maps.clear();
            self.processors.clear();
        }
        let is_lost = self.tasks.len() >= known || self.tasks.is_empty();
        if is_lost {
            self.waiting.clear();
            self.memory.forget();
        }
        is_lost
    }
}

fn failed(error: io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "the kernel gives its records of executed programs only with CAP_PERFMON".to_owned()
        }
        _ => format!("cannot have the kernel's records of executed programs (perf events): {error}"),
    }
}

/// Reads now and then, so that there is always room for what comes.
fn keep_reading(executions: &Weak<Executions>) {
    if let Err(error) = ring::hurry() {
        tracing::debug!(%error, "records of executed programs are read when there is time for it");
    }
    while let Some(executions) = executions.upgrade() {
        let mut state = executions.lock();
        if state.follow_processors() {
            executions.lost.fetch_add(1, Relaxed);
        }
        executions.read(&mut state);
        let events: Vec<_> = state.tasks.values().chain(state.maps.values()).map(Ring::event).collect();
        // Nobody waits while this waits, and nothing is kept alive that nobody else uses.
        drop(state);
        drop(executions);
        let mut events: Vec<_> =
            events.iter().map(|event| PollFd::new(event.as_fd(), PollFlags::POLLIN)).collect();
        if poll(&mut events, PollTimeout::from(READ_EVERY_MS)).is_err() {
            thread::sleep(Duration::from_millis(READ_EVERY_MS.into()));
        }
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

fn file_of(image: Image) -> File {
    let device = (rustix::fs::major(image.device), rustix::fs::minor(image.device));
    File { device, inode: image.inode }
}

/// `0-3,5`; `None` for anything else.
fn listed(list: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        numbers.extend(first..=last.min(first.saturating_add(MOST_PROCESSORS)));
    }
    Some(numbers)
}

/// File systems that give a file the same device and number as the kernel uses for it inside: ext2, 3 and 4,
/// XFS, tmpfs, F2FS, SquashFS, EROFS. Overlays and btrfs do not.
const COMPARABLE: [u64; 6] = [0xEF53, 0x5846_5342, 0x0102_1994, 0xF2F5_2010, 0x7371_7368, 0xE0F5_E1E2];

const PROCESSORS: &str = "/sys/devices/system/cpu/online";
const MOST_PROCESSORS: u32 = 8192;
/// Forty bytes each.
const PROCESSES: usize = 131_072;
const ROOM_OF_ALL: usize = 16 << 20;
const LEAST_ROOM: usize = 32 << 10;
/// With half as much for programs and processes, and first pages, less than any user may lock
/// (`perf_event_mlock_kb`).
const MOST_ROOM: usize = 256 << 10;
/// Read in some ten microseconds.
const LITTLE: usize = 16 << 10;
const READ_EVERY_MS: u16 = 250;

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn a_list_of_processors_is_read_as_linux_writes_it() {
        assert_eq!(listed("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(listed("0\n"), Some(vec![0]));
        assert_eq!(listed(""), None);
        assert_eq!(listed("0-x"), None);
    }
}
