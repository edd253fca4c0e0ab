//! What the kernel records, as far as it matters here.

/// A file as records name it: the device and number of its inode inside the kernel, which most file systems
/// also tell to those who ask about the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct File {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
}

/// What happened, and when on the monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Record {
    pub(super) at: u64,
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// A process has let go of what it ran, and is about to run something else.
    Exec { pid: u32 },
    /// A file was mapped into a process so that it can be executed.
    Map { pid: u32, file: File },
    /// A process was made.
    Fork { pid: u32, parent: u32 },
    /// A process ended, or at least its first thread.
    Exit { pid: u32 },
    /// Something of no interest.
    Other,
    /// Some records were lost.
    Lost,
}

/// Reads the records one after the other. What cannot be read counts as lost.
pub(super) fn parse(mut bytes: &[u8], mut each: impl FnMut(Record)) {
    while !bytes.is_empty() {
        let size =
            bytes.get(6..8).and_then(|size| Some(usize::from(u16::from_ne_bytes(size.try_into().ok()?))));
        let record = size.filter(|size| *size >= HEADER).and_then(|size| bytes.split_at_checked(size));
        let Some((record, rest)) = record else {
            return each(Record { at: 0, what: What::Lost });
        };
        each(parse_one(record).unwrap_or(Record { at: 0, what: What::Lost }));
        bytes = rest;
    }
}

/// `struct perf_event_header`, the fields of the kind, and the time at the end.
fn parse_one(record: &[u8]) -> Option<Record> {
    let u16_at = |at: usize| Some(u16::from_ne_bytes(record.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
    let (pid, tid) = (u32_at(8), u32_at(12));
    let misc = u16_at(4)?;
    let what = match u32_at(0)? {
        COMM if misc & BY_EXEC != 0 => What::Exec { pid: pid? },
        MMAP2 => {
            let device = (u32_at(40)?, u32_at(44)?);
            What::Map { pid: pid?, file: File { device, inode: u64_at(48)? } }
        }
        // Of a task: its process, its parent's process, itself, its parent.
        FORK if pid? != tid? => What::Fork { pid: pid?, parent: tid? },
        EXIT if pid? == u32_at(16)? => What::Exit { pid: pid? },
        LOST => What::Lost,
        _ => What::Other,
    };
    let at = u64_at(record.len().checked_sub(8)?)?;
    Some(Record { at, what })
}

const HEADER: usize = 8;
const LOST: u32 = 2;
const COMM: u32 = 3;
const EXIT: u32 = 4;
const FORK: u32 = 7;
const MMAP2: u32 = 10;
/// `PERF_RECORD_MISC_COMM_EXEC`: the name changed because a program was executed.
const BY_EXEC: u16 = 1 << 13;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u32, misc: u16, body: &[u32], at: u64) -> Vec<u8> {
        let size = (HEADER + 4 * body.len() + 8) as u16;
        let mut bytes: Vec<u8> = kind.to_ne_bytes().into_iter().chain(misc.to_ne_bytes()).collect();
        bytes.extend(size.to_ne_bytes());
        body.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes.extend(at.to_ne_bytes());
        bytes
    }

    fn parsed(bytes: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        parse(bytes, |record| records.push(record));
        records
    }

    #[test]
    fn records_are_read_one_after_the_other() {
        let map = [7, 7, 0, 0, 0, 0, 0, 0, 254, 1, 99, 0, 5, 0, 5, 2, 0x6e69_622f, 0x612f];
        let all = [
            bytes(FORK, 0, &[7, 6, 7, 6, 0, 0], 1),
            bytes(FORK, 0, &[7, 7, 8, 7, 0, 0], 2),
            bytes(COMM, BY_EXEC, &[7, 7, 0x61, 0], 3),
            bytes(COMM, 0, &[7, 7, 0x62, 0], 4),
            bytes(MMAP2, 2, &map, 5),
            bytes(EXIT, 0, &[7, 6, 8, 6, 0, 0], 6),
            bytes(EXIT, 0, &[7, 6, 7, 6, 0, 0], 7),
            bytes(LOST, 0, &[1, 0, 4, 0], 8),
        ];
        let what: Vec<_> = parsed(&all.concat()).into_iter().map(|record| (record.at, record.what)).collect();
        let file = File { device: (254, 1), inode: 99 };
        let expected = [
            (1, What::Fork { pid: 7, parent: 6 }),
            (2, What::Other),
            (3, What::Exec { pid: 7 }),
            (4, What::Other),
            (5, What::Map { pid: 7, file }),
            (6, What::Other),
            (7, What::Exit { pid: 7 }),
            (8, What::Lost),
        ];
        assert_eq!(what, expected);
    }

    #[test]
    fn what_is_cut_or_nonsense_counts_as_lost_and_never_panics() {
        let whole = bytes(MMAP2, 0, &[1; 20], 1);
        for end in 1..whole.len() {
            assert!(parsed(&whole[..end]).iter().any(|record| record.what == What::Lost), "{end}");
        }
        assert_eq!(parsed(&[0; 64])[0].what, What::Lost);
        assert_eq!(parsed(&bytes(EXIT, 0, &[], 1))[0].what, What::Lost);
    }
}
