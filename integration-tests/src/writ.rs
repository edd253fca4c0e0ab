//! `writ up` and the commands that speak to it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde::Deserialize;
use serde_json::Value;

use crate::folder::Folder;
use crate::needs::built;
use crate::running::{Running, eventually, pid};

/// How long a debug build on a loaded machine may take to be up.
const START: Duration = Duration::from_secs(30);

/// The `writ` that cargo built beside the tests, or of the profile that `WRIT_PROFILE` names.
#[must_use]
pub fn writ_binary() -> PathBuf {
    let profile = std::env::var("WRIT_PROFILE");
    let path = built(profile.as_deref().unwrap_or("debug")).join("writ");
    assert!(path.exists(), "{} is not built; run: cargo xtask test build", path.display());
    path
}

/// The program of `src/bin/test_workload.rs`.
#[must_use]
pub fn test_workload() -> PathBuf {
    built("debug").join("test-workload")
}

/// A program of the folder `examples`.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    built("debug").join(name)
}

/// `writ`, with nothing of the environment that would name another one.
#[must_use]
pub fn writ_command() -> Command {
    let mut command = Command::new(writ_binary());
    command.env_remove("WRIT_DATA").env_remove("SPIFFE_ENDPOINT_SOCKET");
    command
}

/// What a command answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Answer {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Insists on success.
    #[track_caller]
    #[must_use]
    pub fn done(self) -> Self {
        assert_eq!(self.code, 0, "the command was refused\n{}{}", self.out, self.err);
        self
    }

    /// Insists on a refusal, and that it is one sentence on standard error.
    #[track_caller]
    #[must_use]
    pub fn refused(self) -> String {
        assert_eq!(self.code, 1, "the command was not refused\n{}{}", self.out, self.err);
        let errors: Vec<_> = self.err.lines().filter(|line| !line.trim().is_empty()).collect();
        assert_eq!(errors.len(), 1, "an error is one sentence, not\n{}", self.err);
        errors[0].to_owned()
    }

    /// Its output as JSON: one document, or one for each line.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        let documents: Result<Vec<Value>, _> = self.out.lines().map(serde_json::from_str).collect();
        match documents.as_deref() {
            Ok([one]) => one.clone(),
            Ok(many) => Value::Array(many.to_vec()),
            Err(_) => serde_json::from_str(&self.out)
                .unwrap_or_else(|error| panic!("not JSON ({error}):\n{}{}", self.out, self.err)),
        }
    }
}

/// The line that `writ up --output json` prints when everything answers.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    /// The trust domain's name.
    pub trust_domain: String,
    /// Where workloads ask.
    pub workload_api: String,
    /// Where gates ask.
    pub authz: PathBuf,
    /// Where an administrator asks the server.
    pub server_admin: String,
    /// Where an administrator asks the agent.
    pub agent_admin: String,
    /// Where agents of other nodes ask the server.
    pub server_address: String,
    /// What they know it by.
    pub server_pin: String,
    /// The server's process.
    pub server_pid: u32,
    /// The agent's process.
    pub agent_pid: u32,
}

/// A server and an agent under `writ up`.
#[derive(Debug)]
pub struct Writ {
    /// What it said when it was ready.
    pub ready: Ready,
    up: Running,
    arguments: Vec<String>,
    data: PathBuf,
    folder: Folder,
}

impl Writ {
    /// Up in a fresh directory.
    #[must_use]
    pub fn up() -> Self {
        Self::up_with(&[])
    }

    /// Up in a fresh directory, with further arguments.
    #[must_use]
    pub fn up_with(arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let data = folder.join("d");
        Self::up_at(folder, data, arguments)
    }

    /// Up on a directory of the story's choice; `folder` keeps the log.
    #[must_use]
    pub fn up_at(folder: Folder, data: PathBuf, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let (up, ready) = start(&mut writ_command(), &folder, &data, &arguments);
        Self { ready, up, arguments, data, folder }
    }

    /// Up in a fresh directory and in a network namespace of its own.
    #[must_use]
    pub fn up_in_namespace(namespace: &str, arguments: &[&str]) -> Self {
        Self::up_below(&["ip", "netns", "exec", namespace], arguments)
    }

    /// Up in a fresh directory, started by a program that executes what it is given.
    #[must_use]
    pub fn up_below(program: &[&str], arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let data = folder.join("d");
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(writ_binary());
        let (up, ready) = start(&mut command, &folder, &data, &arguments);
        Self { ready, up, arguments, data, folder }
    }

    /// Ends it in an orderly way and starts it again on the same directory.
    #[must_use]
    pub fn again(self) -> Self {
        let Self { mut up, arguments, data, folder, .. } = self;
        let status = up.stop();
        assert!(status.success(), "an orderly end is a success, not {status}\n{}", up.log());
        drop(up);
        let (up, ready) = start(&mut writ_command(), &folder, &data, &arguments);
        Self { ready, up, arguments, data, folder }
    }

    /// Ends it in an orderly way and keeps its directory.
    #[must_use]
    pub fn down(self) -> (Folder, PathBuf) {
        let Self { mut up, data, folder, .. } = self;
        up.stop();
        drop(up);
        (folder, data)
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The end of what it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.up.log()
    }

    /// The process of `writ up` itself.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.up.pid()
    }

    /// The Workload API's socket.
    #[must_use]
    pub fn workload_socket(&self) -> PathBuf {
        path(&self.ready.workload_api)
    }

    /// The server's socket for administrators.
    #[must_use]
    pub fn server_socket(&self) -> PathBuf {
        path(&self.ready.server_admin)
    }

    /// The agent's socket for administrators.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        path(&self.ready.agent_admin)
    }

    /// The SPIFFE ID of a path in its trust domain.
    #[must_use]
    pub fn id(&self, path: &str) -> String {
        format!("spiffe://{}{path}", self.ready.trust_domain)
    }

    /// The SPIFFE ID of the node that `writ up` is.
    #[must_use]
    pub fn node_id(&self) -> String {
        self.id("/spire/agent/join_token/local")
    }

    /// `writ …` on its data directory, ready to run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = writ_command();
        command.args(arguments).env("WRIT_DATA", &self.data);
        command
    }

    /// Runs `writ …`.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(&mut self.command(arguments))
    }

    /// Runs `writ … --output json` and insists on an answer.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        self.run(&all).done().json()
    }

    /// Registers an identity on this node, waits until its agent has it, and returns the entry's ID.
    #[track_caller]
    pub fn entry(&self, path: &str, selectors: &[&str]) -> String {
        self.entry_with(path, selectors, &[])
    }

    /// The same with further arguments.
    #[track_caller]
    pub fn entry_with(&self, path: &str, selectors: &[&str], more: &[&str]) -> String {
        let mut arguments = vec!["entry", "create", "--spiffe-id", path, "--parent", "local"];
        for selector in selectors {
            arguments.extend(["--selector", selector]);
        }
        arguments.extend(more);
        let before = self.known();
        let entry = self.ask(&arguments);
        // Who asks before it has reached the agent is rightly refused.
        eventually("the agent has the entry", START, || (self.known() > before).then_some(()));
        entry["id"].as_str().unwrap_or_else(|| panic!("an entry has an id: {entry}")).to_owned()
    }

    /// How many entries this node's agent has.
    #[must_use]
    pub fn known(&self) -> Option<u64> {
        self.run(&["status", "--output", "json"]).json()["agent"]["entries"].as_u64()
    }

    /// Deletes an entry.
    #[track_caller]
    pub fn delete(&self, entry: &str) {
        let _ = self.run(&["entry", "delete", entry]).done();
    }

    /// The process that now does this role, `server` or `agent`.
    #[track_caller]
    #[must_use]
    pub fn role(&self, role: &str) -> u32 {
        let up = self.pid();
        eventually(&format!("a process for the {role}"), START, || {
            let children = fs::read_to_string(format!("/proc/{up}/task/{up}/children")).ok()?;
            children.split_whitespace().filter_map(|child| child.parse().ok()).find(|child| {
                let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).any(|word| word == role.as_bytes())
            })
        })
    }

    /// Kills the process of a role without any warning, and returns the ID that it had.
    pub fn kill(&self, role: &str) -> u32 {
        let victim = self.role(role);
        kill(pid(victim), Signal::SIGKILL).expect("writ up's own child can be killed by us");
        victim
    }

    /// Sends the process of a role a signal.
    pub fn signal(&self, role: &str, signal: Signal) {
        kill(pid(self.role(role)), signal).expect("writ up's own child can be signalled by us");
    }
}

/// Starts `writ up` by a command that may wrap it, such as `ip netns exec`.
fn start(command: &mut Command, folder: &Folder, data: &Path, arguments: &[String]) -> (Running, Ready) {
    command.args(["up", "--output", "json", "--data"]).arg(data).args(arguments);
    let up = Running::start(command, "up", folder.path());
    let ready = up.line(START);
    let ready =
        serde_json::from_str(&ready).unwrap_or_else(|error| panic!("not a ready line ({error}): {ready}"));
    (up, ready)
}

/// An address of the ready line is a path, or `unix://` and a path.
fn path(address: &str) -> PathBuf {
    PathBuf::from(OsStr::new(address.strip_prefix("unix://").unwrap_or(address)))
}
