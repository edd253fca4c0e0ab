//! Real container engines: Docker and Podman, each with directories, a socket and a network namespace of
//! its own, whose mounts end with it. Images are made from files of this machine; no registry is asked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::folder::Folder;
use crate::needs;
use crate::running::{Running, eventually, pid};
use crate::writ::{Answer, test_workload};

/// How long an engine may take for anything on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The image that all containers are made from. It holds `/test-workload` and its libraries.
pub const IMAGE: &str = "localhost/writ-workload:1";

/// An engine that runs, and ends with all of its containers when dropped.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    daemon: Running,
    folder: Folder,
    /// The ids of all its containers.
    started: Mutex<Vec<String>>,
    /// Others leave the engines' cgroups in place as long as this is held.
    place: Flock<File>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Docker,
    Podman,
}

/// A container whose only process says whom the agent takes it for.
#[derive(Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    talk: Folder,
}

impl Engine {
    /// Docker; `None` where it is not installed.
    #[must_use]
    pub fn docker() -> Option<Self> {
        let there = needs::root()
            && needs::program("dockerd", "docker.io containerd runc")
            && needs::program("unshare", "util-linux");
        there.then(|| Self::start(Kind::Docker))
    }

    /// Podman; `None` where it is not installed.
    #[must_use]
    pub fn podman() -> Option<Self> {
        let there = needs::root()
            && needs::program("podman", "podman")
            && needs::program("runc", "runc")
            && needs::program("unshare", "util-linux");
        there.then(|| Self::start(Kind::Podman))
    }

    fn start(kind: Kind) -> Self {
        let folder = Folder::new();
        // Podman asks for the engine's own limits by default, which not even root may raise everywhere. crun
        // does not know hybrid cgroups. Locks in shared memory would be those of all Podmans of the machine.
        folder.write("containers.conf", "[engine]\nlock_type = \"file\"\n");
        let place = File::create(std::env::temp_dir().join("writ-engines.lock")).expect("a lock can be made");
        let place = Flock::lock(place, FlockArg::LockShared).map_err(|(_, error)| error);
        let daemon = daemon(kind, &folder);
        let engine = Self {
            kind,
            daemon,
            folder,
            started: Mutex::default(),
            place: place.expect("a lock can be shared"),
        };
        engine.ready();
        engine.import();
        engine
    }

    /// Its socket, which speaks Docker's API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("engine.sock")
    }

    /// The configuration by which an agent asks it.
    #[must_use]
    pub fn configuration(&self) -> String {
        let key = match self.kind {
            Kind::Docker => "socket",
            Kind::Podman => "podman_socket",
        };
        format!("[attestors.docker]\n{key} = {:?}\n", self.socket())
    }

    /// Runs its command line.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command().args(arguments))
    }

    /// Starts a container that reaches the agent by the public directory, mounted read-only.
    #[track_caller]
    #[must_use]
    pub fn container(&self, public: &Path, options: &[&str]) -> Container {
        self.container_of(IMAGE, public, options)
    }

    /// The same of another image.
    #[track_caller]
    #[must_use]
    pub fn container_of(&self, image: &str, public: &Path, options: &[&str]) -> Container {
        let talk = Folder::new();
        let mut command = self.command();
        command.args(["run", "--detach", "--network", "none"]);
        if self.kind == Kind::Podman {
            command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        }
        command.arg("--volume").arg(format!("{}:/public:ro", public.display()));
        command.arg("--volume").arg(format!("{}:/talk", talk.path().display()));
        command.args(options).arg(image);
        command.args(["/test-workload", "answer", "/public/workload.sock", "/talk/socket"]);
        let id = Answer::of(&mut command).done().out.trim().to_owned();
        assert_eq!(id.len(), 64, "it prints the container's id: {id}");
        self.started.lock().expect("nobody panics with it").push(id.clone());
        Container { id, talk }
    }

    /// What the engine says of a container.
    #[track_caller]
    #[must_use]
    pub fn inspect(&self, container: &Container) -> Value {
        self.run(&["container", "inspect", &container.id]).done().json()[0].clone()
    }

    /// The container's first process, as the host sees it.
    #[track_caller]
    #[must_use]
    pub fn first_process(&self, container: &Container) -> u32 {
        let pid = self.inspect(container)["State"]["Pid"].as_u64().expect("it has one");
        pid.try_into().expect("a process id")
    }

    /// Ends a container.
    #[track_caller]
    pub fn remove(&self, container: &Container) {
        let _ = self.run(&[self.removal(), &[&container.id]].concat()).done();
    }

    /// Freezes the engine, or lets it go on. Containers are not touched.
    pub fn signal(&mut self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Kills the engine without warning. Its containers go on.
    pub fn kill(&mut self) {
        self.daemon.signal(Signal::SIGKILL);
        self.daemon.ended(PATIENCE);
        let _ = fs::remove_file(self.socket());
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) {
        // A machine whose first process reaps nobody would take its containerd for a living one.
        for left in ["pid", "run/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.folder.join(left));
        }
        self.daemon = daemon(self.kind, &self.folder);
        self.ready();
    }

    fn command(&self) -> Command {
        let address = format!("unix://{}", self.socket().display());
        let mut command = match self.kind {
            Kind::Docker => {
                let mut command = Command::new("docker");
                command.args(["--host", &address]);
                command
            }
            Kind::Podman => {
                let mut command = Command::new("podman");
                command.args(["--url", &address]);
                command
            }
        };
        // Nothing of whoever runs the tests has a say.
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT").env_remove("CONTAINER_HOST");
        command.env("HOME", self.folder.path()).env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        command.stdin(Stdio::null());
        command
    }

    /// Without ten seconds in which the container may end by itself.
    fn removal(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Docker => &["rm", "--force"],
            Kind::Podman => &["rm", "--force", "--time", "0"],
        }
    }

    /// Where the engine itself failed, nobody else ends what it started.
    fn kill_what_is_left(&self) {
        let place = self.folder.path().as_os_str().as_encoded_bytes();
        let Ok(processes) = fs::read_dir("/proc") else { return };
        for process in processes.flatten() {
            let Some(number) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let cgroup = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
            let is_helper = line.windows(place.len()).any(|part| part == place);
            let started = self.started.lock().expect("nobody panics with it");
            if number != std::process::id() && (is_helper || started.iter().any(|id| cgroup.contains(id))) {
                let _ = kill(pid(number), Signal::SIGKILL);
            }
        }
    }

    fn ready(&self) {
        eventually("the engine answers", PATIENCE, || (self.run(&["info"]).code == 0).then_some(()));
    }

    /// Makes the image.
    fn import(&self) {
        let archive = workload_archive(&self.folder);
        let _ = self.run(&["import", &archive.display().to_string(), IMAGE]).done();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.daemon.signal(Signal::SIGCONT);
        let all = self.run(&["ps", "--all", "--quiet"]).out;
        let containers: Vec<_> = all.split_whitespace().collect();
        if !containers.is_empty() {
            self.run(&[self.removal(), &containers].concat());
        }
        self.daemon.stop();
        self.kill_what_is_left();
        // The last one of all engines on this machine removes the cgroups that they share.
        if self.place.relock(FlockArg::LockExclusiveNonblock).is_ok() {
            remove_cgroups();
        }
    }
}

impl Container {
    /// Has its process ask the agent over a new connection; the identities, or the refusal's code.
    #[track_caller]
    #[must_use]
    pub fn ask(&self) -> Value {
        let socket = self.talk.join("socket");
        let mut stream = eventually("the container's process listens", PATIENCE, || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("it answers");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("not JSON ({error}): {answer}"))
    }
}

fn daemon(kind: Kind, folder: &Folder) -> Running {
    let [data, run, temporary, socket] = ["data", "run", "temporary", "engine.sock"].map(|n| folder.join(n));
    let mut command = Command::new("unshare");
    // What it mounts is seen by its own containers only, and is gone with them.
    command.args(["--net", "--mount", "--propagation", "slave"]);
    match kind {
        Kind::Docker => {
            command.arg("dockerd").arg("--data-root").arg(data).arg("--exec-root").arg(run);
            command
                .arg("--pidfile")
                .arg(folder.join("pid"))
                .arg("--config-file")
                .arg(folder.join("none.json"));
            command.arg("--host").arg(format!("unix://{}", socket.display()));
            command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--live-restore"]);
            folder.write("none.json", "{}");
        }
        Kind::Podman => {
            command.arg("podman").arg("--root").arg(data).arg("--runroot").arg(run);
            command.arg("--tmpdir").arg(temporary).args([
                "--runtime",
                "runc",
                "--cgroup-manager",
                "cgroupfs",
            ]);
            command.args(["--events-backend", "file", "system", "service", "--time", "0"]);
            command.arg(format!("unix://{}", socket.display()));
        }
    }
    command.env("CONTAINERS_CONF", folder.join("containers.conf"));
    Running::start(&mut command, "engine", folder.path())
}

/// The test workload with the libraries that it is linked to, as a file system for an image.
fn workload_archive(folder: &Folder) -> PathBuf {
    let root = folder.join("root");
    fs::create_dir(&root).expect("the folder is ours");
    fs::copy(test_workload(), root.join("test-workload")).expect("the folder is ours");
    let listed = Answer::of(Command::new("ldd").arg(test_workload())).done().out;
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(&library[1..]);
        fs::create_dir_all(place.parent().expect("below the root")).expect("the folder is ours");
        fs::copy(library, place).expect("the folder is ours");
    }
    let archive = folder.join("root.tar");
    let _ = Answer::of(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".")).done();
    fs::remove_dir_all(root).expect("the folder is ours");
    archive
}

/// Removes what engines leave in each hierarchy of cgroups; what is still in use stays.
fn remove_cgroups() {
    let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else { return };
    for hierarchy in hierarchies.flatten() {
        for name in ["docker", "libpod_parent/conmon", "libpod_parent"] {
            let _ = fs::remove_dir(hierarchy.path().join(name));
        }
    }
}
