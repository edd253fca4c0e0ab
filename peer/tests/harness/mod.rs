//! Puppets: real processes that do as they are told, so that every test is a story of events.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses another part of it")]

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader, Write},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use peer::{Listener, Pinning};
use tempfile::TempDir;

/// A process under command. It is killed with the test.
pub(crate) struct Puppet {
    pub(crate) child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Puppet {
    pub(crate) fn start() -> Self {
        Self::run(&mut Command::new(puppet()))
    }

    /// Acts under this uid and gid from its first moment.
    pub(crate) fn start_as(id: u32, program: &Path) -> Self {
        Self::run(Command::new(program).uid(id).gid(id))
    }

    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the puppet starts");
        let orders = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut puppet = Self { child, orders, answers };
        assert_eq!(puppet.listen(), "ready");
        puppet
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order and waits until it is done.
    #[track_caller]
    pub(crate) fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("the puppet takes orders");
        assert_eq!(self.listen(), "ok", "{order}");
    }

    /// Lets it run another program, which is a puppet too, and waits until it does.
    #[track_caller]
    pub(crate) fn exec(&mut self, program: &Path) {
        self.order(&format!("exec {}", program.display()));
        assert_eq!(self.listen(), "ready");
    }

    #[track_caller]
    pub(crate) fn connect(&mut self, listener: &Listener) {
        self.order(&format!("connect {}", listener.path().display()));
    }

    /// Ends it, and waits until its pid is free.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is reaped");
    }

    fn listen(&mut self) -> String {
        let mut line = String::new();
        if self.answers.buffer().is_empty() {
            let mut ask = [PollFd::new(self.answers.get_ref().as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ask, PollTimeout::from(20_000u16)), Ok(1), "the puppet answers in time");
        }
        self.answers.read_line(&mut line).expect("the puppet answers");
        line.trim_end().to_owned()
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The compiled puppet.
pub(crate) fn puppet() -> &'static Path {
    static PUPPET: OnceLock<PathBuf> = OnceLock::new();
    PUPPET.get_or_init(|| {
        let source = include_str!("puppet.c");
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let puppet = directory.join(format!("puppet-{:x}", hasher.finish()));
        if !puppet.exists() {
            let fresh = tempfile::tempdir_in(directory).expect("a directory");
            let (file, program) = (fresh.path().join("puppet.c"), fresh.path().join("puppet"));
            fs::write(&file, source).expect("written");
            let done = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&program).arg(&file).status();
            assert!(done.expect("a C compiler named cc is installed").success(), "the puppet compiles");
            // Whole or not at all: other runs look for it too.
            fs::rename(program, &puppet).expect("the puppet can be put in place");
        }
        puppet
    })
}

/// A directory that every user can enter, with a socket in it that every user can connect to.
pub(crate) fn listen() -> (TempDir, Listener) {
    let directory = open_directory();
    let listener = Listener::bind(&directory.path().join("workload.sock"), 0o777, Pinning::ByPidfd);
    (directory, listener.expect("it listens"))
}

pub(crate) fn open_directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it can be opened");
    directory
}

/// A copy of the puppet: the same program as another file.
pub(crate) fn copy_of_puppet(to: &Path) -> PathBuf {
    copy(puppet(), to)
}

/// Not by this process: whatever another test starts meanwhile would inherit the open file for a moment,
/// and a file that is open for writing cannot be executed.
fn copy(from: &Path, to: &Path) -> PathBuf {
    assert!(Command::new("cp").arg(from).arg(to).status().expect("cp starts").success());
    to.to_owned()
}

/// Whether a test that needs root can run. If not it is listed by name, and in CI it fails.
#[track_caller]
pub(crate) fn as_root(test: &str) -> bool {
    // Inside, it is root who has started this, whoever this is.
    if nix::unistd::geteuid().is_root() || env::var_os(INSIDE).is_some() {
        return true;
    }
    assert!(env::var("CI").is_err(), "{test} needs root, and with CI set nothing may be left out");
    // Past the test runner, which keeps back what a passing test prints.
    let line = format!("not run: {test} needs root\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

/// Runs one test of this very file again in another process, below the command that is given, and says
/// whether this is that other process.
pub(crate) fn inside(test: &str, below: &[&str]) -> bool {
    if env::var_os(INSIDE).is_some_and(|name| name == test) {
        let _ = writeln!(std::io::stdout(), "inside {test}");
        return true;
    }
    let [program, arguments @ ..] = below else { panic!("a command") };
    // Where every user may execute it, which the directory of a build need not be.
    let directory = open_directory();
    let myself = copy(&env::current_exe().expect("this file"), &directory.path().join("test"));
    let done = Command::new(program)
        .args(arguments)
        .arg(myself)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains(&format!("inside {test}")),
        "{test} inside {program}: {said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    false
}

/// From now on, in this thread and what it starts, `call` fails with `error`; or only when its argument of
/// this index has this value.
pub(crate) fn forbid(call: libc::c_long, only: Option<(u32, u32)>, error: i32) {
    let step = |code: u32, jump_true: u8, jump_false: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: jump_false,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let ret = libc::BPF_RET | libc::BPF_K;
    // struct seccomp_data: nr at 0, args at 16, each of 8 bytes with the low half first on this machine.
    const { assert!(cfg!(target_endian = "little")) };
    let (index, value) = only.unwrap_or_default();
    let any_value = if only.is_none() { 2 } else { 0 };
    let mut steps = [
        step(load, 0, 0, 0),
        step(equals, any_value, 3, call as u32),
        step(load, 0, 0, 16 + 8 * index),
        step(equals, 0, 1, value),
        step(ret, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(ret, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: both calls only read what is passed: numbers, and a program that lives until they return.
    #[expect(unsafe_code, reason = "no safe wrapper of seccomp filters is at hand")]
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(done, "{}", std::io::Error::last_os_error());
}

const INSIDE: &str = "WRIT_TEST_INSIDE";
