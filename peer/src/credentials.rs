//! Uids and gids of a process.

use std::{fmt, fs, sync::OnceLock};

/// The four ids that a process has of each kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// As whom it acts. This is the one that selectors speak of.
    pub effective: u32,
    /// What it may switch back to.
    pub saved: u32,
    /// As whom it opens files; the effective one unless it said otherwise.
    pub filesystem: u32,
}

/// Every uid and gid of a process (supplementary groups are in [`crate::Status`]).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// Users.
    pub uid: Ids,
    /// Groups.
    pub gid: Ids,
}

impl Credentials {
    /// Whether one of them has no number here: in a user namespace that lacks a mapping for them, all
    /// foreign users look like one and the same "nobody", so nothing may be concluded from it.
    pub(crate) fn has_unmapped(&self) -> bool {
        static OVERFLOW: OnceLock<[Option<u32>; 2]> = OnceLock::new();
        let [user, group] = *OVERFLOW
            .get_or_init(|| [overflow_id("uid_map", "overflowuid"), overflow_id("gid_map", "overflowgid")]);
        let has = |ids: &Ids, overflow: Option<u32>| {
            overflow.is_some_and(|id| [ids.real, ids.effective, ids.saved, ids.filesystem].contains(&id))
        };
        has(&self.uid, user) || has(&self.gid, group)
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |ids: &Ids| format!("{}/{}/{}/{}", ids.real, ids.effective, ids.saved, ids.filesystem);
        write!(f, "uid {} gid {}", ids(&self.uid), ids(&self.gid))
    }
}

/// The number that stands for every id without a mapping; `None` where all ids have one.
fn overflow_id(map: &str, number: &str) -> Option<u32> {
    let everything_is_mapped = fs::read_to_string(format!("/proc/self/{map}"))
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    if everything_is_mapped {
        return None;
    }
    let number = fs::read_to_string(format!("/proc/sys/kernel/{number}")).ok();
    Some(number.and_then(|text| text.trim().parse().ok()).unwrap_or(65534))
}
