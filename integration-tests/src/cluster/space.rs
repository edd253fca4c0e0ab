//! The namespaces and cgroups that a cluster lives in.

use std::fs::{self, File};
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::running::{Running, eventually};

/// Network, mounts and processes of a cluster, and its turn at the host's cgroups: a kubelet takes whatever
/// is in `/kubepods` for its own, so there is one cluster at a time.
///
/// The first process of the namespaces reads its standard input until that ends, which it does when this
/// process ends, however that comes; and the kernel ends with it whatever else is in there.
#[derive(Debug)]
pub(super) struct Space {
    first: Running,
    init: u32,
    _turn: File,
}

/// Folders where containerd, its shims and the kubelet write at fixed paths are the cluster's own. The
/// kubelet takes no loopback address for its node's and wants a default route, so there is a link.
const FURNISH: &str = "set -e
for folder in /run /var/log /var/lib; do mount -t tmpfs -o mode=755 tmpfs $folder; done
ip link set lo up
ip link add node type veth peer name elsewhere
ip address add 10.78.0.1/24 dev node
ip link set node up
ip link set elsewhere up
ip route add default via 10.78.0.254 dev node
echo furnished
exec cat";

impl Space {
    pub(super) fn open(folder: &Path) -> Self {
        let turn = File::open(CGROUPS).expect("cgroups are mounted");
        turn.lock().expect("locks can be had");
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["--propagation", "private", "--", "sh", "-c", FURNISH]);
        let first = Running::start(&mut command, "space", folder);
        assert_eq!(first.line(LONG), "furnished", "{}", first.log());
        let init = child_of(first.pid());
        Self { first, init, _turn: turn }
    }

    /// A command that is run inside.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--pid", "--target", &self.init.to_string(), "--"]).arg(program);
        command
    }

    /// Runs `work` on the network inside, but with the mounts and processes of outside.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.init);
        let name = thread::current().name().unwrap_or("a test").to_owned();
        let on_a_thread_of_its_own = || {
            let namespace = File::open(&path).expect("the cluster lives");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            work()
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(name).spawn_scoped(scope, on_a_thread_of_its_own);
            thread.expect("threads can be had").join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.first.close_input();
        // Not by `eventually`, which panics: this may be the end of a test that does so already.
        let end = Instant::now() + LONG;
        let left = || hierarchies().iter().any(|root| remove(&root.join("kubepods")).is_err());
        while left() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The process that `parent` started and waits for.
pub(super) fn child_of(parent: u32) -> u32 {
    eventually("a process inside", LONG, || {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

/// Where the hierarchy of version 2 is mounted.
pub(super) fn unified() -> PathBuf {
    let hybrid = Path::new(CGROUPS).join("unified");
    if hybrid.exists() { hybrid } else { CGROUPS.into() }
}

/// Makes a cgroup in each hierarchy, and gives the files by which processes enter it.
pub(super) fn make(path: &str) -> Vec<PathBuf> {
    let made = hierarchies().into_iter().map(|root| {
        let mut at = root;
        for name in path.split('/') {
            let parent = at.clone();
            at.push(name);
            if at.exists() {
                continue;
            }
            fs::create_dir(&at).expect("root may make cgroups");
            // A cgroup without processors or memory nodes takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|file| at.join(file).exists()) {
                let all = fs::read(parent.join(file)).expect("it is there too");
                fs::write(at.join(file), all).expect("root may write to cgroups");
            }
        }
        at.join("cgroup.procs")
    });
    made.collect()
}

/// Every mounted hierarchy.
fn hierarchies() -> Vec<PathBuf> {
    if Path::new(CGROUPS).join("cgroup.controllers").exists() {
        return vec![CGROUPS.into()];
    }
    let mut found: Vec<PathBuf> = fs::read_dir(CGROUPS)
        .expect("cgroups are mounted")
        .flatten()
        .filter(|entry| entry.path().join("cgroup.procs").exists())
        .map(|entry| entry.path().canonicalize().expect("it was there"))
        .collect();
    found.sort();
    found.dedup(); // cpu and cpuacct may be two names of one
    found
}

/// Removes a cgroup with those below it; one with a process in it cannot be.
fn remove(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

const CGROUPS: &str = "/sys/fs/cgroup";
const LONG: Duration = Duration::from_secs(60);
