//! [`Command`]: what is to run, and how it comes to run.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Command as StdCommand, Stdio},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Gid, Resource, Rlimit, Uid, setpriority_process, setrlimit, setsid, umask},
    thread::{
        CapabilitySet, ThreadNameSpaceType, move_into_thread_name_spaces,
        remove_capability_from_bounding_set, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use super::{Cgroup, NoCgroup, Surroundings, cgroup};

/// A program with everything that it gets.
#[derive(Debug)]
pub struct Command {
    /// The file to execute.
    pub program: PathBuf,
    /// What it sees as its arguments, its name first.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Standard input, output and error.
    pub descriptors: [OwnedFd; 3],
    /// Which of these is to be its controlling terminal.
    pub terminal: Option<usize>,
    /// Where it begins, if not where the asker is.
    pub directory: Option<OwnedFd>,
}

/// A command that runs.
#[derive(Debug)]
pub struct Started {
    child: tokio::process::Child,
    pid: u32,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// It cannot be put where it belongs.
    #[error(transparent)]
    Cgroup(#[from] NoCgroup),
    /// The kernel refused.
    #[error("cannot start {}: {source}", program.display())]
    Io {
        /// The file.
        program: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl Command {
    /// Starts it in this cgroup as the user of these surroundings. Takes milliseconds, inside a Tokio
    /// runtime but not on one of its threads.
    pub fn start(self, cgroup: &Cgroup, surroundings: &Surroundings) -> Result<Started, CannotStart> {
        let Self { program, arguments, environment, descriptors, terminal, directory } = self;
        let mut entrances = vec![cgroup.entrance()?];
        entrances.extend(cgroup::entrances_of_version_1(surroundings.cgroups())?);
        let failed = |source| CannotStart::Io { program: program.clone(), source };
        let before = Before {
            entrances,
            pidfd: surroundings.pidfd.try_clone().map_err(failed)?,
            namespaces: surroundings.namespaces,
            terminal: terminal.and_then(|number| i32::try_from(number).ok()),
            umask: Mode::from_raw_mode(surroundings.umask),
            limits: surroundings.limits.clone(),
            niceness: surroundings.niceness,
            oom_score_adj: surroundings.oom_score_adj.clone(),
            bounding: surroundings.bounding,
            groups: surroundings.groups.iter().map(|group| Gid::from_raw(*group)).collect(),
            gid: Gid::from_raw(surroundings.gid),
            uid: Uid::from_raw(surroundings.uid),
            directory: match directory {
                Some(directory) => directory,
                None => surroundings.directory.try_clone().map_err(failed)?,
            },
        };
        let mut command = StdCommand::new(&program);
        let mut arguments = arguments.into_iter();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env_clear().envs(environment);
        let [input, output, errors] = descriptors;
        command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
        // SAFETY: between fork and exec `enter` makes system calls on values that exist already; it
        // allocates nothing, takes no lock, and an error is returned by its number alone.
        #[expect(
            unsafe_code,
            reason = "only the child itself can enter a cgroup, a session and its user's rights"
        )]
        unsafe {
            command.pre_exec(move || before.enter())
        };
        let child = tokio::process::Command::from(command).spawn().map_err(failed)?;
        let pid = child.id().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        Ok(Started { child, pid })
    }
}

impl Started {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns when it has ended.
    pub async fn ended(&mut self) -> io::Result<Exit> {
        let status = self.child.wait().await?;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL)),
        })
    }
}

/// What the child does between its birth and the program.
struct Before {
    entrances: Vec<OwnedFd>,
    pidfd: OwnedFd,
    namespaces: ThreadNameSpaceType,
    terminal: Option<i32>,
    umask: Mode,
    limits: Vec<(Resource, Rlimit)>,
    niceness: i32,
    oom_score_adj: Vec<u8>,
    bounding: u64,
    groups: Vec<Gid>,
    gid: Gid,
    uid: Uid,
    directory: OwnedFd,
}

impl Before {
    /// Rights go last, since everything before needs them.
    fn enter(&self) -> io::Result<()> {
        for entrance in &self.entrances {
            rustix::io::write(entrance, b"0")?;
        }
        if !self.namespaces.is_empty() {
            move_into_thread_name_spaces(self.pidfd.as_fd(), self.namespaces)?;
        }
        self.take_terminal()?;
        umask(self.umask);
        for (resource, limit) in &self.limits {
            // A limit that the asker was given by somebody mightier than this process stays as it is here;
            // it is lower then.
            match setrlimit(*resource, *limit) {
                Err(rustix::io::Errno::PERM) => {}
                done => done?,
            }
        }
        setpriority_process(None, self.niceness)?;
        self.set_oom_score()?;
        new_keyring();
        for number in 0..u64::BITS {
            let capability = 1_u64 << number;
            if self.bounding & capability == 0 {
                match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(capability)) {
                    Err(rustix::io::Errno::INVAL) => break, // beyond the last one that this kernel knows
                    done => done?,
                }
            }
        }
        // An error only says that there are none.
        let _ = rustix::thread::clear_ambient_capability_set();
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        set_thread_res_uid(self.uid, self.uid, self.uid)?;
        rustix::process::fchdir(&self.directory)?;
        Ok(())
    }

    /// A session of its own: what is typed at the asker's terminal is not for it, unless that is its own.
    fn take_terminal(&self) -> io::Result<()> {
        setsid()?;
        if let Some(number) = self.terminal {
            // SAFETY: standard input, output and error are open here, and stay so until the program runs.
            #[expect(unsafe_code, reason = "a standard descriptor is known by its number alone")]
            let terminal = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::process::ioctl_tiocsctty(terminal)?;
        }
        Ok(())
    }

    fn set_oom_score(&self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
        // Lowering it again may take a right that this process has not.
        match rustix::io::write(&file, &self.oom_score_adj) {
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Ok(()),
            written => written.map(drop).map_err(Into::into),
        }
    }
}

/// The session's keys of this process are not the command's. Without keyrings in the kernel there are none.
fn new_keyring() {
    // SAFETY: this request takes a null pointer for a keyring without a name, and touches no memory.
    #[expect(unsafe_code, reason = "no safe wrapper of keyctl exists")]
    let _ = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0_usize) };
}
