//! Real processes to attest: copies of `cat`, which answer each line with itself and so say that they run.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses another part of it")]

pub(crate) mod liars;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
};

use attestors::{Evidence, Strength, Wanted, WorkloadAttestors};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use peer::Peer;
use spiffe::Selector;
use tempfile::TempDir;

/// A process that ends with the test.
pub(crate) struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn program(program: &Path) -> Self {
        Self::command(&mut Command::new(program))
    }

    /// Whatever this does first, in the end it executes `cat`.
    pub(crate) fn command(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut running = Self { child, input, output };
        assert_eq!(running.hear(), "running");
        running
    }

    /// What the process says when it gets a line.
    fn hear(&mut self) -> String {
        writeln!(self.input, "running").expect("it takes input");
        let mut line = String::new();
        if self.output.buffer().is_empty() {
            let mut ask = [PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ask, PollTimeout::from(20_000u16)), Ok(1), "it answers in time");
        }
        self.output.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }

    /// Holds it, as each of its connections does anew.
    pub(crate) fn peer(&self) -> Arc<Peer> {
        Arc::new(Peer::open(self.child.id()).expect("it can be held"))
    }

    /// Holds its only child.
    pub(crate) fn child_peer(&self) -> Arc<Peer> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("readable");
        Arc::new(Peer::open(children.trim().parse().expect("one child")).expect("it can be held"))
    }

    /// One more line, after which it is the next program, which answers too.
    pub(crate) fn become_the_next(&mut self) {
        assert_eq!((self.hear(), self.hear()), ("running".to_owned(), "running".to_owned()));
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is reaped");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the attestors say, if all that is `asked` for is wanted.
pub(crate) async fn attest(all: &WorkloadAttestors, peer: &Arc<Peer>, asked: &[&str]) -> Evidence {
    all.attest(peer, &wanted(asked)).await.expect("the process is what it was")
}

pub(crate) fn wanted(asked: &[&str]) -> Wanted {
    let selectors: Vec<Selector> = asked.iter().map(|text| text.parse().expect("a selector")).collect();
    selectors.iter().collect()
}

/// The values of one fact, as `unix:path`.
pub(crate) fn values(evidence: &Evidence, fact: &str) -> Vec<String> {
    let prefix = format!("{fact}:");
    evidence
        .selectors()
        .filter_map(|selector| selector.as_str().strip_prefix(&prefix).map(str::to_owned))
        .collect()
}

#[track_caller]
pub(crate) fn assert_strength(evidence: &Evidence, fact: &str, strength: Strength) {
    let found = evidence.facts.iter().find(|found| found.selector.as_str().starts_with(fact));
    assert_eq!(found.expect("the fact is there").strength, strength, "{fact}");
}

/// Without path and hash, and with a note that says why.
#[track_caller]
pub(crate) fn assert_nameless(evidence: &Evidence, why: &str) {
    assert_eq!((values(evidence, "unix:path"), values(evidence, "unix:sha256")), (vec![], vec![]));
    assert!(evidence.notes.iter().any(|note| note.contains(why)), "{why:?} is not in {:?}", evidence.notes);
}

/// A directory that every user can enter.
pub(crate) fn directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it can be opened");
    directory
}

/// A program by this name that nothing else has the inode or, by what is put behind it, the hash of.
///
/// Not written by this process: whatever another test starts meanwhile would inherit the open file for a
/// moment, and a file that is open for writing cannot be executed.
pub(crate) fn program(directory: &Path, name: &str) -> PathBuf {
    program_from("/bin/cat", directory, name)
}

/// The same of another program than `cat`.
pub(crate) fn program_from(original: &str, directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    let script = "cp \"$1\" \"$2\" && printf %s \"$3\" >> \"$2\"";
    let done = Command::new("sh").args(["-c", script, "sh", original]).arg(&path).arg(name).status();
    assert!(done.expect("sh starts").success());
    path
}

pub(crate) fn sha256(path: &Path) -> String {
    let bytes = fs::read(path).expect("readable");
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes))
}

/// Compiles a C program into this directory.
pub(crate) fn compile(directory: &Path, name: &str, source: &str) -> PathBuf {
    let (file, program) = (directory.join(format!("{name}.c")), directory.join(name));
    fs::write(&file, source).expect("written");
    let done = Command::new("cc").arg("-o").arg(&program).arg(&file).status();
    assert!(done.expect("a C compiler named cc is installed").success());
    program
}

/// Whether a test that needs root can run. If not it is listed by name, and in CI it fails.
#[track_caller]
pub(crate) fn as_root(test: &str) -> bool {
    has(test, nix::unistd::geteuid().is_root(), "root")
}

/// Whether a test that needs this device can run, as root.
#[track_caller]
pub(crate) fn with_device(test: &str, device: &str) -> bool {
    as_root(test) && has(test, Path::new(device).exists(), device)
}

#[track_caller]
fn has(test: &str, present: bool, needed: &str) -> bool {
    if !present {
        assert!(env::var("CI").is_err(), "{test} needs {needed}, and with CI set nothing may be left out");
        // Past the test runner, which keeps back what a passing test prints.
        let line = format!("not run: {test} needs {needed}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    present
}

pub(crate) const BOTH: &[&str] = &["unix:path:/any", "unix:sha256:any"];

/// A cgroup of cgroup v2, made below its root and removed with the test.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").expect("readable");
        let words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = words.filter(|words| words[2] == "cgroup2").map(|words| words[1].to_owned()).next();
        let root = root.expect("cgroup v2 is mounted somewhere");
        let path = Path::new(&root).join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("root makes cgroups");
        Self(path)
    }

    /// One at this very path, with those above it that are not there.
    pub(crate) fn at(path: &str) -> Self {
        let root = Self::new("root");
        let path = root.0.parent().expect("it is below the root").join(path);
        fs::create_dir_all(&path).expect("root makes cgroups");
        Self(path)
    }

    /// The path that processes in it have.
    pub(crate) fn name(&self) -> String {
        format!("/{}", self.0.file_name().expect("it has one").to_string_lossy())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    /// Moves a process in.
    pub(crate) fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("root moves processes");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has just been reaped may count for a moment longer.
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                // Those above as well, unless somebody else is in there.
                let above = self.0.ancestors().skip(1);
                let _ = above.take_while(|path| fs::remove_dir(path).is_ok()).count();
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
