//! What /proc says about a process in text: `status`, `cgroup`, and the start time from `stat`.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::BorrowedFd,
};

use rustix::fs::{Mode, OFlags, openat};

use crate::{Credentials, Ids, Kin};

/// The parts of /proc/PID/status that anybody here asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// Uids and gids.
    pub credentials: Credentials,
    /// Supplementary groups as they are now (`SO_PEERGROUPS` would tell those at connect time, which a
    /// process may have dropped since).
    pub groups: Vec<u32>,
    /// The process that traces it, and so can make it do anything; 0 is nobody.
    pub tracer: u32,
}

impl Status {
    pub(crate) fn read(dir: BorrowedFd<'_>) -> io::Result<Self> {
        Self::parse(&read_file(dir, "status")?).ok_or_else(|| malformed("status"))
    }

    /// `None` if a line is missing or is not what the kernel writes.
    fn parse(text: &str) -> Option<Self> {
        // The process chooses its name, the first line, but the kernel escapes line feeds in it.
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::split_whitespace)
        };
        Some(Self {
            credentials: Credentials { uid: parse_ids(field("Uid")?)?, gid: parse_ids(field("Gid")?)? },
            groups: field("Groups")?.map(|group| group.parse().ok()).collect::<Option<_>>()?,
            tracer: field("TracerPid")?.next()?.parse().ok()?,
        })
    }
}

fn parse_ids<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Ids> {
    let mut id = || words.next()?.parse().ok();
    Some(Ids { real: id()?, effective: id()?, saved: id()?, filesystem: id()? })
}

/// When the process started, in clock ticks since boot.
pub(crate) fn start_time(dir: BorrowedFd<'_>) -> io::Result<u64> {
    parse_start_time(&read_file(dir, "stat")?).ok_or_else(|| malformed("stat"))
}

pub(crate) fn kin(dir: BorrowedFd<'_>) -> io::Result<Kin> {
    Kin::parse(&read_file(dir, "stat")?).ok_or_else(|| malformed("stat"))
}

/// Field 22. The name, field 2, may hold spaces and parentheses, so counting starts behind its last one.
fn parse_start_time(text: &str) -> Option<u64> {
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The cgroups, whole or not at all: half a path names another cgroup.
pub(crate) fn cgroup(dir: BorrowedFd<'_>) -> io::Result<String> {
    let bytes = read_bytes(dir, "cgroup", MAX_CGROUP_BYTES + 1)?;
    if bytes.len() as u64 > MAX_CGROUP_BYTES {
        let sentence = format!("/proc/PID/cgroup is longer than {MAX_CGROUP_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
    }
    String::from_utf8(bytes).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, "a cgroup of the process has a name that is not UTF-8")
    })
}

fn read_bytes(dir: BorrowedFd<'_>, name: &str, most: u64) -> io::Result<Vec<u8>> {
    let file = File::from(openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let mut bytes = Vec::with_capacity(2048);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn read_file(dir: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let bytes = read_bytes(dir, name, MAX_BYTES)?;
    // A process may give itself a name that is not UTF-8; everything else is ASCII.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn malformed(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/PID/{name} is not as Linux writes it"))
}

/// Room for the 65,536 supplementary groups that Linux allows.
const MAX_BYTES: u64 = 1 << 20;
/// A dozen hierarchies of the longest paths.
const MAX_CGROUP_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\\nUid:\\t0 0 0 0\nUmask:\t0022\nTracerPid:\t77\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";

    #[test]
    fn status_is_read_by_its_lines() {
        let status = Status::parse(STATUS).expect("well formed");
        assert_eq!(status.credentials.uid, Ids { real: 1, effective: 2, saved: 3, filesystem: 4 });
        assert_eq!(status.credentials.gid, Ids { real: 5, effective: 6, saved: 7, filesystem: 8 });
        assert_eq!((status.groups, status.tracer), (vec![9, 10], 77));
    }

    #[test]
    fn a_status_cut_anywhere_is_refused_or_whole_but_never_panics() {
        for end in 0..STATUS.len() {
            let _ = Status::parse(&STATUS[..end]);
        }
        assert_eq!(Status::parse("Uid:\t1\t2\t3\nGid:\t1\t1\t1\t1\nGroups:\t\nTracerPid:\t0\n"), None);
        assert_eq!(Status::parse("Uid:\t1\t2\t3\t-4\nGid:\t1\t1\t1\t1\nGroups:\t\nTracerPid:\t0\n"), None);
    }

    #[test]
    fn a_process_cannot_choose_its_start_time_by_its_name() {
        let line = "7 (a) S 1 ) 9) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_start_time(line), Some(4242));
        assert_eq!(parse_start_time("7 (x) S 1"), None);
        assert_eq!(parse_start_time(""), None);
    }

    use proptest::{collection::vec, prelude::*, sample::Index};

    const STAT: &str = "7 (a) S 1 ) 9) S 41 7 7 34816 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n";

    /// One of the texts with words of the format put in, and parts removed.
    fn changed(text: &'static str) -> impl Strategy<Value = String> {
        const WORDS: &[&str] =
            &["\n", "\t", ":", ")", " ", "-1", "4294967296", "Uid:\t0\t0\t0\t0\n", "Groups:\t", "\u{fffd}"];
        let change = (any::<Index>(), 0_usize..12, proptest::sample::select(WORDS));
        vec(change, 0..5).prop_map(move |changes| {
            let mut bytes = text.as_bytes().to_vec();
            for (at, removed, put) in changes {
                let at = at.index(bytes.len() + 1);
                let end = bytes.len().min(at + removed);
                drop(bytes.splice(at..end, put.bytes()));
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    proptest! {
        #[test]
        fn whatever_a_status_says_is_read_or_refused_and_no_name_is_an_id(
            rest in changed(STATUS),
            name in "[ -~]{0,15}",
        ) {
            if let Some(status) = Status::parse(&rest) {
                // The name comes first, and the kernel writes its line feeds as \\n.
                let named = format!("Name:\t{name}\\nUid:\t0 0 0 0\n{rest}");
                prop_assert_eq!(Status::parse(&named), Some(status));
            }
        }

        #[test]
        fn whatever_a_stat_says_is_read_or_refused_and_no_name_moves_its_fields(
            text in changed(STAT),
            name in "[ -~]{0,15}",
        ) {
            let _ = (parse_start_time(&text), Kin::parse(&text));
            let (_, rest) = STAT.rsplit_once(')').expect("there is one");
            let named = format!("7 ({name}){rest}");
            prop_assert_eq!((parse_start_time(&named), Kin::parse(&named).map(|kin| kin.parent)), (Some(4242), Some(41)));
        }
    }
}
