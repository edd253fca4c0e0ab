//! Puppets: real processes that do as they are told, so that every test is a story of events.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses another part of it")]

use std::{
    env, fs,
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
        let mut ask = [PollFd::new(self.answers.get_ref().as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ask, PollTimeout::from(20_000u16)), Ok(1), "the puppet answers in time");
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
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/puppet.c");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let fresh = directory.join(format!("puppet.{}", std::process::id()));
        let done = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&fresh).arg(source).status();
        assert!(done.expect("a C compiler named cc is installed").success(), "{source} compiles");
        // Another run may be using it, so it is replaced whole.
        let puppet = directory.join("puppet");
        fs::rename(fresh, &puppet).expect("the puppet can be put in place");
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
    fs::copy(puppet(), to).expect("a copy");
    to.to_owned()
}

/// Whether a test that needs root can run. If not it is listed by name, and in CI it fails.
#[track_caller]
pub(crate) fn as_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(env::var("CI").is_err(), "{test} needs root, and with CI set nothing may be left out");
    // Past the test runner, which keeps back what a passing test prints.
    let _ = writeln!(std::io::stderr().lock(), "not run: {test} needs root");
    false
}

/// Runs one test of this very file again in another process, below the command that is given, and says
/// whether this is that other process.
pub(crate) fn inside(test: &str, below: &[&str]) -> bool {
    if env::var_os(INSIDE).is_some_and(|name| name == test) {
        return true;
    }
    let [program, arguments @ ..] = below else { panic!("a command") };
    let done = Command::new(program)
        .args(arguments)
        .arg(env::current_exe().expect("this file"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{test} inside {program}: {said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    false
}

const INSIDE: &str = "WRIT_TEST_INSIDE";
