//! What a story needs of the machine.
//!
//! A story that lacks something notes its own name and the one line that would enable it, in the file
//! that `cargo xtask test` names, and ends; with `CI=true` it fails instead. There is no other way to
//! skip a test here.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// True as root: network namespaces, mounts and other users' processes need it.
#[must_use]
pub fn root() -> bool {
    have(nix::unistd::geteuid().is_root(), "run as root: sudo -E cargo xtask test")
}

/// The hierarchies of cgroups in which systemd keeps units (cgroup v2, and `name=systemd` on hybrid hosts),
/// where root can make cgroups in them.
#[must_use]
pub fn cgroups() -> Option<Vec<PathBuf>> {
    if !root() {
        return None;
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_units = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (path, kind, options) = (words.next()?, words.next()?, words.next()?);
        let has =
            kind == "cgroup2" || kind == "cgroup" && options.split(',').any(|word| word == "name=systemd");
        has.then(|| PathBuf::from(path))
    };
    let trees: Vec<_> = mounts.lines().filter_map(of_units).collect();
    let writable = |tree: &PathBuf| {
        let probe = tree.join(format!("writ-probe-{}", std::process::id()));
        std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok()
    };
    have(!trees.is_empty() && trees.iter().all(writable), "mount cgroup v2 on /sys/fs/cgroup, writable")
        .then_some(trees)
}

/// True where this program is on PATH; `package` is what brings it.
#[must_use]
pub fn program(name: &str, package: &str) -> bool {
    let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    have(found.is_ok(), &format!("apt-get install {package}"))
}

/// True where something is there; `enable` is the one line that would bring it.
#[must_use]
pub fn there(is_there: bool, enable: &str) -> bool {
    have(is_there, enable)
}

/// True where a folder is in memory and can be written.
#[must_use]
pub fn memory_folder(path: &Path) -> bool {
    let kind = nix::sys::statfs::statfs(path).map(|about| about.filesystem_type());
    have(kind == Ok(nix::sys::statfs::TMPFS_MAGIC), &format!("mount a tmpfs on {}", path.display()))
}

/// The path of a Go program that `cargo xtask test` built.
#[must_use]
pub fn go_client(name: &str) -> Option<PathBuf> {
    let path = built("clients").join(name);
    have(path.exists(), "install Go 1.24 or newer, then: cargo xtask test tools").then_some(path)
}

/// The path of one of SPIRE's own programs, which `cargo xtask test` built.
#[must_use]
pub fn spire(name: &str) -> Option<PathBuf> {
    let path = built("clients/spire").join(name);
    have(path.exists(), "install Go 1.26 or newer, then: cargo xtask test spire").then_some(path)
}

/// The path of one of Kubernetes' own programs, which `cargo xtask test` built.
#[must_use]
pub fn kubernetes(name: &str) -> Option<PathBuf> {
    let path = built("clients/kubernetes").join(name);
    have(path.exists(), "install Go 1.26 or newer, then: cargo xtask test kubernetes").then_some(path)
}

/// How the client on the published Python library is started.
#[must_use]
pub fn python_client() -> Option<(PathBuf, Vec<String>)> {
    let python = built("clients/python/bin/python");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/watch.py");
    let enable = "apt-get install python3 python3-venv, then: cargo xtask test tools";
    have(python.exists(), enable).then(|| (python, vec![source.to_owned()]))
}

/// How the client on the published Java library is started.
#[must_use]
pub fn java_client() -> Option<(PathBuf, Vec<String>)> {
    let classes = built("clients/java");
    let path = format!("{0}:{0}/lib/*", classes.display());
    let enable = "apt-get install openjdk-17-jdk-headless maven, then: cargo xtask test tools";
    let arguments = ["-Xmx128m", "-XX:+UseSerialGC", "-cp", &path, "Watch"].map(str::to_owned);
    have(classes.join("Watch.class").exists(), enable).then(|| ("java".into(), arguments.into()))
}

/// Published programs that speak MCP.
#[derive(Clone, Debug)]
pub struct Mcp {
    /// The interpreter with the package of the client.
    pub python: PathBuf,
    /// The interpreter of the servers.
    pub node: PathBuf,
    modules: PathBuf,
}

impl Mcp {
    /// The program of a published server.
    #[must_use]
    pub fn server(&self, name: &str) -> PathBuf {
        self.modules.join("@modelcontextprotocol").join(name).join("dist/index.js")
    }
}

/// The published client and servers of MCP, which `cargo xtask test` fetched.
#[must_use]
pub fn mcp() -> Option<Mcp> {
    let folder = built("clients/mcp");
    let path = env::var_os("PATH").unwrap_or_default();
    let node = env::split_paths(&path).map(|folder| folder.join("node")).find(|node| node.is_file());
    let modules = folder.join("node_modules");
    let there = modules.join("package.json").exists() && folder.join("bin/python").exists();
    let enable = "apt-get install python3 python3-venv nodejs npm, then: cargo xtask test tools";
    have(there && node.is_some(), enable).then_some(())?;
    Some(Mcp { python: folder.join("bin/python"), node: node?, modules })
}

/// A path below the folder that cargo builds into.
pub(crate) fn built(name: &str) -> PathBuf {
    let this = env::current_exe().expect("a test knows its own program");
    // target/debug/deps/stories-1234, or target/debug/test-workload
    let target = this.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    target.expect("tests are run from cargo's target directory").join(name)
}

fn have(there: bool, enable: &str) -> bool {
    if there {
        return true;
    }
    let test = thread::current().name().unwrap_or("a test").to_owned();
    assert!(env::var("CI").as_deref() != Ok("true"), "{test} could not run; {enable}");
    if let Some(notes) = env::var_os("WRIT_NOT_RUN") {
        let mut file =
            OpenOptions::new().append(true).create(true).open(notes).expect("the notes can be kept");
        writeln!(file, "{test}\t{enable}").expect("the notes can be kept");
    }
    false
}
