//! The records of one processor, which the kernel writes into memory that it shares with this process.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

/// The shared memory: one page about it, then the records, round and round.
#[derive(Debug)]
pub(super) struct Ring {
    event: Arc<OwnedFd>,
    memory: NonNull<u8>,
    page: usize,
    room: usize,
    /// Whether something was lost that the kernel has not told of yet.
    has_lost: bool,
}

/// Which records a ring is of. They are kept apart, since whoever maps files without end can fill up the one
/// kind in no time, and needs a process each time for the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    /// Programs executed, processes made and ended.
    Tasks,
    /// Files mapped for execution. The kernel puts processes made and ended beside them.
    Maps,
}

// SAFETY: the mapping belongs to the ring, stays where it is, and may be used from any thread; reading
// takes `&mut self`.
#[expect(unsafe_code, reason = "a pointer is not Send by itself")]
unsafe impl Send for Ring {}

impl Ring {
    /// Asks for records of this processor. `room` is a power of two of bytes.
    pub(super) fn open(processor: u32, room: usize, of: Of) -> io::Result<Self> {
        let flags = FLAGS
            | match of {
                Of::Tasks => COMM | TASK | COMM_EXEC,
                Of::Maps => MMAP | MMAP2,
            };
        let ask = Ask {
            kind: SOFTWARE,
            size: size_of::<Ask>() as u32,
            config: DUMMY,
            sample_type: TIME,
            flags: if cfg!(target_endian = "big") { flags.reverse_bits() } else { flags },
            wakeup_watermark: (room / 4) as u32,
            clock: libc::CLOCK_MONOTONIC,
            ..Ask::default()
        };
        let (anybody, no_group) = (-1, -1);
        // SAFETY: `ask` is laid out like the kernel's struct perf_event_attr in its fifth version, says its
        // own size, lives until the call returns, and is only read.
        #[expect(unsafe_code, reason = "no safe wrapper of perf_event_open is at hand")]
        let event = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const ask, anybody, processor, no_group, CLOEXEC)
        };
        let event =
            i32::try_from(event).ok().filter(|event| *event >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call has just made this descriptor, and nobody else knows it.
        #[expect(unsafe_code, reason = "a descriptor comes from the call as a number")]
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        let page = rustix::param::page_size();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        #[expect(unsafe_code, reason = "no safe wrapper of mmap exists")]
        let memory = unsafe {
            libc::mmap(ptr::null_mut(), page + room, access, libc::MAP_SHARED, event.as_raw_fd(), 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { event: Arc::new(event), memory, page, room, has_lost: false })
    }

    /// Appends what was recorded since the last time. False if some of it may have been lost.
    pub(super) fn read(&mut self, records: &mut Vec<u8>) -> bool {
        let (written, read) = (self.count(WRITTEN), self.count(READ));
        let (head, tail) = (written.load(Acquire), read.load(Relaxed));
        let length = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX);
        if length > self.room {
            read.store(head, Release);
            self.has_lost = true;
            return false;
        }
        let before = records.len();
        let start = (tail % self.room as u64) as usize;
        let first = length.min(self.room - start);
        records.reserve(length);
        // SAFETY: both parts lie inside the mapping, and the kernel leaves what lies between the two counts
        // alone until the second one moves.
        #[expect(unsafe_code, reason = "the memory is shared with the kernel")]
        unsafe {
            let data = self.memory.as_ptr().add(self.page);
            records.extend_from_slice(std::slice::from_raw_parts(data.add(start), first));
            records.extend_from_slice(std::slice::from_raw_parts(data, length - first));
        }
        read.store(head, Release);
        if self.has_lost && length > 0 {
            without_notice(records, before);
            self.has_lost = false;
        }
        // A record that found no room is told of only with the next one. That is known now, and no news then.
        let is_full = length + LARGEST > self.room;
        self.has_lost |= is_full;
        !is_full
    }

    /// How many bytes have been recorded and not yet read.
    pub(super) fn unread(&self) -> usize {
        let (written, read) = (self.count(WRITTEN).load(Acquire), self.count(READ).load(Relaxed));
        usize::try_from(written.wrapping_sub(read)).unwrap_or(usize::MAX)
    }

    /// What becomes readable when a quarter of the room is used.
    pub(super) fn event(&self) -> Arc<OwnedFd> {
        self.event.clone()
    }

    fn count(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the first page is a struct perf_event_mmap_page, where these are aligned 64-bit counts; it
        // is mapped for as long as `self` lives, and both sides use them atomically.
        #[expect(unsafe_code, reason = "the memory is shared with the kernel")]
        unsafe {
            AtomicU64::from_ptr(self.memory.as_ptr().add(offset).cast())
        }
    }
}

/// Takes the record away that begins there, if it tells of a loss.
fn without_notice(records: &mut Vec<u8>, start: usize) {
    let word = |at: usize| records.get(start + at..start + at + 2)?.first_chunk().copied();
    let kind = word(0).map(u16::from_ne_bytes);
    let size = word(6).map(|size| usize::from(u16::from_ne_bytes(size)));
    if let (Some(LOST), Some(size)) = (kind, size)
        && let Some(end) = start.checked_add(size).filter(|end| *end <= records.len())
    {
        records.drain(start..end);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping, and nothing that points into it outlives `self`.
        #[expect(unsafe_code, reason = "what was mapped must be unmapped")]
        unsafe {
            libc::munmap(self.memory.as_ptr().cast(), self.page + self.room);
        }
    }
}

/// Puts the calling thread before all others that do not do the same, or leaves it where it is: whoever makes
/// records without end must not keep from the processor who reads them.
pub(super) fn hurry() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: it is only read, and lives until the call returns.
    #[expect(unsafe_code, reason = "no safe wrapper of sched_setscheduler is at hand")]
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | RESET_ON_FORK, &raw const lowest) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kernel's `struct perf_event_attr`.
#[repr(C)]
#[derive(Default)]
struct Ask {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_watermark: u32,
    breakpoint_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clock: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

const _: () = assert!(size_of::<Ask>() == 112);

/// `PERF_RECORD_LOST`, of which the upper half is zero.
const LOST: u16 = if cfg!(target_endian = "big") { 0 } else { 2 };
const SOFTWARE: u32 = 1;
/// An event that never counts anything; what matters are the records beside it.
const DUMMY: u64 = 9;
/// Each record ends with its time.
const TIME: u64 = 1 << 2;
/// exclude_kernel, exclude_hv, watermark, sample_id_all, use_clockid
const FLAGS: u64 = 1 << 5 | 1 << 6 | 1 << 14 | 1 << 18 | 1 << 25;
const MMAP: u64 = 1 << 8;
const COMM: u64 = 1 << 9;
const TASK: u64 = 1 << 13;
const MMAP2: u64 = 1 << 23;
const COMM_EXEC: u64 = 1 << 24;
const CLOEXEC: libc::c_ulong = 8;
const RESET_ON_FORK: libc::c_int = 0x4000_0000;
/// `data_head` and `data_tail` of `struct perf_event_mmap_page`.
const WRITTEN: usize = 1024;
const READ: usize = 1032;
/// A record with the longest path has a little more than 4,096 bytes.
const LARGEST: usize = 8192;
