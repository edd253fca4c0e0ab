//! [`Surroundings`]: what a process lives in, read from the kernel, so that a command started for it gets the
//! same and no more.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, openat, statat},
    process::{Pid, PidfdGetfdFlags, Resource, Rlimit, getpriority_process, pidfd_getfd},
    thread::ThreadNameSpaceType,
};

use crate::{Changed, Peer};

/// Directory, groups, limits, namespaces and cgroups of a process.
#[derive(Debug)]
pub struct Surroundings {
    pub(super) pidfd: OwnedFd,
    pub(super) directory: OwnedFd,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) umask: u32,
    pub(super) bounding: u64,
    pub(super) limits: Vec<(Resource, Rlimit)>,
    pub(super) niceness: i32,
    pub(super) oom_score_adj: Vec<u8>,
    /// Those in which it differs from this process and that a command can be put into.
    pub(super) namespaces: ThreadNameSpaceType,
    pub(super) cgroups: String,
}

/// Why nothing is started for a process: a command that this process starts would have more rights than it.
#[derive(Debug, thiserror::Error)]
pub enum Confined {
    /// A container, a sandbox, a chroot.
    #[error("it lives in another {0} than the agent; run it beside the agent, or attest it by its container")]
    Namespace(&'static str),
    /// seccomp, no_new_privs, with which Landlock comes too.
    #[error(
        "it is confined by {0}, which a command started by the agent would escape; start it from outside"
    )]
    Sandbox(&'static str),
    /// A set-uid program asks, and it is not clear for whom.
    #[error("it acts under several users or groups at once; ask as one of them")]
    TwoUsers,
    /// An LSM's label that is not the agent's.
    #[error("it is confined by the security label {0:?}, which a command started by the agent would escape")]
    Label(String),
    /// It is no longer what it was.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// Something could not be read.
    #[error("it cannot be examined: {0}")]
    Unreadable(#[from] io::Error),
}

impl Peer {
    /// What this process lives in, now. At the end it is still the one that asked.
    pub fn surroundings(&self) -> Result<Surroundings, Confined> {
        let ids = *self.credentials();
        if [ids.uid, ids.gid]
            .iter()
            .any(|ids| [ids.real, ids.saved, ids.filesystem].iter().any(|other| *other != ids.effective))
        {
            return Err(Confined::TwoUsers);
        }
        let namespaces = namespaces(self.dir())?;
        let status = Told::read(self.dir())?;
        if status.seccomp != 0 {
            return Err(Confined::Sandbox("seccomp"));
        }
        if status.no_new_privs {
            return Err(Confined::Sandbox("no_new_privs"));
        }
        if let Some(label) = foreign_label(self.dir())? {
            return Err(Confined::Label(label));
        }
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let surroundings = Surroundings {
            pidfd: self.as_fd().try_clone_to_owned()?,
            directory: openat(self.dir(), "cwd", flags, Mode::empty()).map_err(io::Error::from)?,
            environment: environment(self.dir())?,
            uid: ids.uid.effective,
            gid: ids.gid.effective,
            groups: self.status()?.groups,
            umask: status.umask,
            bounding: status.bounding,
            limits: limits(&String::from_utf8_lossy(&read(self.dir(), "limits", SMALL)?))?,
            niceness: getpriority_process(pid).map_err(io::Error::from)?,
            oom_score_adj: read(self.dir(), "oom_score_adj", SMALL)?,
            namespaces,
            cgroups: self.cgroup()?,
        };
        self.check()?;
        Ok(surroundings)
    }

    /// A descriptor of this process, as if it had been handed over: the same open file.
    pub fn descriptor(&self, number: u32) -> io::Result<OwnedFd> {
        let number = i32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(pidfd_getfd(self.as_fd(), number, PidfdGetfdFlags::empty())?)
    }
}

impl Surroundings {
    /// Its current directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// A variable of its environment, as it was when its program began.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }

    /// All of its environment.
    pub fn environment(&self) -> &[(OsString, OsString)] {
        &self.environment
    }

    /// Its user and group, and its other groups.
    pub fn user(&self) -> (u32, u32, &[u32]) {
        (self.uid, self.gid, &self.groups)
    }

    /// Its cgroups, as /proc/PID/cgroup has them.
    pub fn cgroups(&self) -> &str {
        &self.cgroups
    }
}

/// Which namespaces to join. A namespace that decides what files and numbers mean cannot be another one.
fn namespaces(dir: BorrowedFd<'_>) -> Result<ThreadNameSpaceType, Confined> {
    let is_ours = |name: &str| -> Result<bool, Confined> {
        let theirs = statat(dir, format!("ns/{name}"), AtFlags::empty());
        let ours = statat(CWD, format!("/proc/self/ns/{name}"), AtFlags::empty());
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => Ok((theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)),
            // A kernel without such namespaces has one for all.
            (Err(rustix::io::Errno::NOENT), Err(rustix::io::Errno::NOENT)) => Ok(true),
            (Err(error), _) | (_, Err(error)) => Err(Confined::Unreadable(error.into())),
        }
    };
    for (name, called) in [
        ("user", "user namespace"),
        ("mnt", "mount namespace"),
        ("pid_for_children", "pid namespace"),
        ("cgroup", "cgroup namespace"),
        ("time_for_children", "time namespace"),
    ] {
        if !is_ours(name)? {
            return Err(Confined::Namespace(called));
        }
    }
    let place = |name: &str| statat(dir, name, AtFlags::empty()).map(|found| (found.st_dev, found.st_ino));
    let root = statat(CWD, "/", AtFlags::empty()).map(|found| (found.st_dev, found.st_ino));
    if place("root").map_err(io::Error::from)? != root.map_err(io::Error::from)? {
        return Err(Confined::Namespace("root directory"));
    }
    let mut join = ThreadNameSpaceType::empty();
    for (name, kind) in [
        ("net", ThreadNameSpaceType::NETWORK),
        ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ] {
        if !is_ours(name)? {
            join |= kind;
        }
    }
    Ok(join)
}

/// The label of its LSM, if that confines it and is not this process's own.
fn foreign_label(dir: BorrowedFd<'_>) -> io::Result<Option<String>> {
    // Without an LSM that labels, the file is not there or says so when it is read.
    let Ok(theirs) = read(dir, "attr/current", SMALL) else { return Ok(None) };
    let ours = fs::read("/proc/self/attr/current").unwrap_or_default();
    let label = String::from_utf8_lossy(&theirs).trim_end_matches(['\0', '\n']).to_owned();
    let is_free =
        theirs == ours || label.is_empty() || label == "unconfined" || label.contains(":unconfined_t:");
    Ok((!is_free).then_some(label))
}

fn environment(dir: BorrowedFd<'_>) -> io::Result<Vec<(OsString, OsString)>> {
    let bytes = read(dir, "environ", LARGEST_ENVIRONMENT)?;
    let variable = |word: &[u8]| {
        let at = word.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        Some((OsStr::from_bytes(&word[..at]).to_owned(), OsStr::from_bytes(&word[at + 1..]).to_owned()))
    };
    Ok(bytes.split(|byte| *byte == 0).filter_map(variable).collect())
}

/// What /proc/PID/status says that only a command to be started needs.
struct Told {
    umask: u32,
    no_new_privs: bool,
    seccomp: u32,
    bounding: u64,
}

impl Told {
    fn read(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let text = String::from_utf8_lossy(&read(dir, "status", LARGEST_STATUS)?).into_owned();
        Self::parse(&text).ok_or_else(|| malformed("status"))
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        Some(Self {
            umask: u32::from_str_radix(field("Umask")?, 8).ok()?,
            no_new_privs: field("NoNewPrivs")? != "0",
            // A kernel without seccomp has no such line.
            seccomp: field("Seccomp").unwrap_or("0").parse().ok()?,
            bounding: u64::from_str_radix(field("CapBnd")?, 16).ok()?,
        })
    }
}

/// The limits, in the kernel's words: a name, the soft limit, the hard one.
fn limits(text: &str) -> io::Result<Vec<(Resource, Rlimit)>> {
    let of = |(name, resource): &(&str, Resource)| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = line.split_whitespace();
        let mut bound = || match words.next()? {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        };
        Some((*resource, Rlimit { current: bound()?, maximum: bound()? }))
    };
    LIMITS.iter().map(of).collect::<Option<_>>().ok_or_else(|| malformed("limits"))
}

fn read(dir: BorrowedFd<'_>, name: &str, most: u64) -> io::Result<Vec<u8>> {
    let file = File::from(openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("its {name} has more than {most} bytes"),
        ));
    }
    Ok(bytes)
}

fn malformed(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/PID/{name} is not as Linux writes it"))
}

const LIMITS: [(&str, Resource); 15] = [
    ("Max cpu time", Resource::Cpu),
    ("Max file size", Resource::Fsize),
    ("Max data size", Resource::Data),
    ("Max stack size", Resource::Stack),
    ("Max core file size", Resource::Core),
    ("Max resident set", Resource::Rss),
    ("Max processes", Resource::Nproc),
    ("Max open files", Resource::Nofile),
    ("Max locked memory", Resource::Memlock),
    ("Max address space", Resource::As),
    ("Max pending signals", Resource::Sigpending),
    ("Max msgqueue size", Resource::Msgqueue),
    ("Max nice priority", Resource::Nice),
    ("Max realtime priority", Resource::Rtprio),
    ("Max realtime timeout", Resource::Rttime),
];

const SMALL: u64 = 16 * 1024;
const LARGEST_STATUS: u64 = 1 << 20;
/// As much as execve takes by default.
const LARGEST_ENVIRONMENT: u64 = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_in_the_kernels_words() {
        let text = fs::read_to_string("/proc/self/limits").expect("readable");
        let read = limits(&text).expect("as Linux writes it");
        let (soft, hard) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("known");
        let files = read.iter().find(|(resource, _)| *resource == Resource::Nofile).expect("there").1;
        assert_eq!((files.current, files.maximum), (Some(soft), Some(hard)));
        assert!(limits("Max cpu time  many\n").is_err());
    }

    #[test]
    fn what_status_says_is_read_or_refused_but_never_guessed() {
        let told = Told::parse("Umask:\t0027\nNoNewPrivs:\t1\nSeccomp:\t2\nCapBnd:\t00000000000000ff\n")
            .expect("whole");
        assert_eq!((told.umask, told.no_new_privs, told.seccomp, told.bounding), (0o27, true, 2, 0xff));
        assert!(Told::parse("Umask:\t0027\nSeccomp:\t0\nCapBnd:\tff\n").is_none());
    }

    #[test]
    fn this_very_process_may_have_something_started() {
        let peer = Peer::open(std::process::id()).expect("held");
        match peer.surroundings() {
            Ok(surroundings) => assert!(surroundings.variable("PATH").is_some()),
            // Where the tests themselves run in a sandbox, that is said.
            Err(error) => assert!(matches!(error, Confined::Sandbox(_) | Confined::Label(_)), "{error}"),
        }
    }
}
