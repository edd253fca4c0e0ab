//! [`Executions`]: what each process really executed, as the kernel recorded it when it did.
//!
//! A process can make its `/proc/PID/exe` link point at another program (`PR_SET_MM_MAP` in a user namespace
//! of its own). So the link alone proves little. The kernel's perf events record, while a program is
//! executed and before any of its code runs, which file is mapped; nobody else can write such a record, and
//! nobody waits for this process to read it. `docs/decisions/0018-what-was-executed.md` says
//! what else was considered.

mod memory;
mod record;
mod ring;

use std::{
    fs, io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
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
    fs::{fstatfs, statfs},
    time::{ClockId, clock_gettime},
};

use self::{
    memory::{Memory, Runs},
    record::{File, Record, What, parse},
    ring::Ring,
};
use crate::{Image, Peer};

/// Remembers what processes executed while this exists.
#[derive(Debug)]
pub struct Executions {
    state: Mutex<State>,
    lost: AtomicU64,
}

/// What is to be thought of the executable of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Execution {
    /// The kernel recorded that this process, or the one that it was forked from, executed this very file.
    Seen,
    /// Nothing is known: it began before the records did, some were lost, or its file system names files
    /// otherwise than the records do.
    NotSeen,
    /// It executed another file. Its link is a lie.
    Another,
}

#[derive(Debug)]
struct State {
    rings: Vec<Ring>,
    processors: String,
    bytes: Vec<u8>,
    /// Read, and not yet in order.
    waiting: Vec<Record>,
    memory: Memory,
    /// Whether those who run must be looked up, for want of records.
    is_survey_due: bool,
}

impl Executions {
    /// Asks for the records of every processor, and starts a thread that reads them. Fails, with what to
    /// tell an administrator, where the kernel does not give them.
    pub fn open() -> Result<Arc<Self>, String> {
        Self::with_memory(PROCESSES)
    }

    fn with_memory(processes: usize) -> Result<Arc<Self>, String> {
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => {
                "the kernel gives its records of executed programs only with CAP_PERFMON".to_owned()
            }
            _ => format!("cannot have the kernel's records of executed programs (perf events): {error}"),
        };
        let mut state = State {
            rings: Vec::new(),
            processors: String::new(),
            bytes: Vec::new(),
            waiting: Vec::new(),
            memory: Memory::new(processes),
            is_survey_due: false,
        };
        state.open_rings().map_err(failed)?;
        // This gives a thread the name that it has, which is recorded like anybody's.
        let renamed = prctl::get_name().and_then(|name| prctl::set_name(&name));
        renamed.map_err(|error| failed(error.into()))?;
        let mut heard = false;
        state.rings.iter_mut().for_each(|ring| {
            let _ = ring.read(&mut state.bytes);
            heard |= !state.bytes.is_empty();
        });
        if !heard {
            return Err("the kernel's records of executed programs (perf events) stay empty".to_owned());
        }
        state.bytes.clear();
        state.survey();
        let executions = Arc::new(Self { state: Mutex::new(state), lost: AtomicU64::new(0) });
        let reader = Arc::downgrade(&executions);
        let named = thread::Builder::new().name("executions".to_owned());
        named.spawn(move || keep_reading(&reader)).map_err(failed)?;
        Ok(executions)
    }

    /// What is to be thought of the executable of this peer, which is open as `file`. Open it before asking:
    /// whatever was executed before it was opened has been recorded by now.
    pub fn of(&self, peer: &Peer, file: &fs::File) -> io::Result<Execution> {
        let image = Image::of_file(file)?;
        let is_comparable = COMPARABLE.contains(&(fstatfs(file)?.f_type as u64));
        let mut state = self.lock();
        self.read(&mut state);
        let (ran, seen) = match state.memory.runs(peer.pid()) {
            Some(Runs::Executed(ran)) if is_comparable => (ran, true),
            Some(Runs::Found(ran)) if is_comparable => (ran, false),
            _ => return Ok(Execution::NotSeen),
        };
        drop(state);
        // The pid was this process's all the time only if it still lives.
        if !peer.alive() {
            return Ok(Execution::NotSeen);
        }
        Ok(match (ran == file_of(image), seen) {
            (true, true) => Execution::Seen,
            (true, false) => Execution::NotSeen,
            (false, _) => Execution::Another,
        })
    }

    /// How often records were lost, and with them all that was known.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
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
    fn open_rings(&mut self) -> io::Result<()> {
        let processors = fs::read_to_string(PROCESSORS)?;
        let numbers =
            listed(&processors).ok_or_else(|| io::Error::other(format!("no list: {processors}")))?;
        let room = (ROOM_OF_ALL / numbers.len().max(1)).clamp(LEAST_ROOM, MOST_ROOM);
        let room = 1 << room.ilog2();
        self.rings = numbers.into_iter().map(|number| Ring::open(number, room)).collect::<Result<_, _>>()?;
        self.processors = processors;
        Ok(())
    }

    /// Takes note of everything that was recorded until now. False if something was lost.
    fn read(&mut self) -> bool {
        let until = now();
        let mut is_whole = true;
        for ring in &mut self.rings {
            self.bytes.clear();
            is_whole &= ring.read(&mut self.bytes);
            parse(&self.bytes, |record| self.waiting.push(record));
        }
        is_whole &= self.waiting.iter().all(|record| record.what != What::Lost);
        if !is_whole {
            self.waiting.clear();
            self.memory.forget();
            self.is_survey_due = true;
            return false;
        }
        // Each processor has a ring of its own, so what came later on one may be read before what came
        // earlier on another: that is done next time.
        self.waiting.sort_by_key(|record| record.at);
        let ripe = self.waiting.partition_point(|record| record.at <= until);
        self.waiting.drain(..ripe).for_each(|record| self.memory.note(record));
        true
    }

    /// Looks up what runs. It proves nothing about how that came about, but whoever runs something else
    /// later without having executed it is found out.
    fn survey(&mut self) {
        self.is_survey_due = false;
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

    /// Processors come and go, and each needs a ring.
    fn follow_processors(&mut self) {
        if fs::read_to_string(PROCESSORS).is_ok_and(|now| now != self.processors) {
            if let Err(error) = self.open_rings() {
                tracing::warn!(%error, "a processor came or went, and executed programs are no longer seen");
                self.rings.clear();
                self.processors.clear();
            }
            self.waiting.clear();
            self.memory.forget();
            self.is_survey_due = true;
        }
    }
}

/// Reads now and then, so that there is always room for what comes.
fn keep_reading(executions: &Weak<Executions>) {
    let mut surveyed = now();
    while let Some(executions) = executions.upgrade() {
        let mut state = executions.lock();
        state.follow_processors();
        executions.read(&mut state);
        // Whoever can cause it could cause it without end.
        if state.is_survey_due && now().saturating_sub(surveyed) > REST_AFTER_SURVEY {
            state.survey();
            surveyed = now();
        }
        let events: Vec<_> = state.rings.iter().map(Ring::event).collect();
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
const LEAST_ROOM: usize = 64 << 10;
/// Together with its first page what any user may lock (`perf_event_mlock_kb`).
const MOST_ROOM: usize = 512 << 10;
const READ_EVERY_MS: u16 = 250;
const REST_AFTER_SURVEY: u64 = 1_000_000_000;

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
