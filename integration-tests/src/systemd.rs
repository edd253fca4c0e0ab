//! A host with a systemd of its own: the one of this machine's packages as the first process of its own
//! namespaces, over this machine's /usr, with its own system bus and nothing else running.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::folder::Folder;
use crate::needs;
use crate::running::{Running, eventually};
use crate::writ::{Answer, writ_binary};

/// How long it may take to boot on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The host; it ends with everything in it when dropped. The programs that cargo built are in `/opt/writ`.
#[derive(Debug)]
pub struct Host {
    boot: Running,
    /// Its first process, as this machine sees it.
    pub init: u32,
    cgroup: String,
    _folder: Folder,
}

impl Host {
    /// Boots one; `None` where systemd or the bus is not installed.
    #[must_use]
    pub fn boot() -> Option<Self> {
        let there = needs::root()
            && needs::program("systemctl", "systemd")
            && needs::program("dbus-daemon", "dbus")
            && needs::program("unshare", "util-linux");
        there.then(Self::start)
    }

    fn start() -> Self {
        let folder = Folder::new();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/boot.sh");
        let root = folder.join("root");
        fs::create_dir(&root).expect("the folder is ours");
        // The folder's name is nobody else's.
        let cgroup = folder.path().file_name().expect("it has one").to_string_lossy().into_owned();
        let binary = writ_binary();
        let programs = binary.parent().expect("it is in a folder");
        let mut command = Command::new("bash");
        command.arg(script).arg(&root).arg(&cgroup).arg(programs);
        let boot = Running::start(&mut command, "systemd", folder.path());
        let init = eventually("systemd is the first process", PATIENCE, || {
            let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", boot.pid())).ok()?;
            let init = children.split_whitespace().next()?.parse().ok()?;
            let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
            (name.trim() == "systemd").then_some(init)
        });
        let host = Self { boot, init, cgroup, _folder: folder };
        eventually("systemd has booted", PATIENCE, || {
            let state = host.run(&["systemctl", "is-system-running"]).out;
            matches!(state.trim(), "running" | "degraded").then_some(())
        });
        host
    }

    /// A command in its namespaces, though in none of its units.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string()]);
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd", "--"]);
        command.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs such a command.
    pub fn run(&self, words: &[&str]) -> Answer {
        Answer::of(&mut self.command(words))
    }

    /// Runs a command as a unit, with further properties of it, and waits for its end.
    pub fn unit(&self, name: &str, properties: &[&str], words: &[&str]) -> Answer {
        let unit = format!("--unit={name}");
        let run = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", &unit];
        self.run(&[&run, properties, &["--"], words].concat())
    }

    /// One of its files, as this machine finds it.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init)).join(path.trim_start_matches('/'))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The kernel ends everything in the pid namespace with its first process.
        self.boot.signal(Signal::SIGKILL);
        self.boot.ended(PATIENCE);
        let gone = || fs::metadata(format!("/proc/{}", self.init)).is_err().then_some(());
        eventually("the host has ended", PATIENCE, gone);
        let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else { return };
        for hierarchy in hierarchies.flatten() {
            remove_cgroup(&hierarchy.path().join(&self.cgroup));
        }
    }
}

/// Removes a cgroup with all below it. Files of a cgroup go with it.
fn remove_cgroup(path: &Path) {
    let Ok(below) = fs::read_dir(path) else { return };
    for inner in below.flatten().filter(|inner| inner.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&inner.path());
    }
    // The last of its processes may not have been reaped yet.
    let removed = || (fs::remove_dir(path).is_ok() || !path.exists()).then_some(());
    eventually("an empty cgroup can be removed", PATIENCE, removed);
}
