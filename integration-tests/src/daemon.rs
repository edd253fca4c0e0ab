//! `writ server run` and `writ agent run` with configuration files, as a package would run them. The
//! story starts them again itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::folder::Folder;
use crate::running::Running;
use crate::writ::{Answer, writ_command};

const START: Duration = Duration::from_secs(30);

/// A server with a directory of its own.
#[derive(Debug)]
pub struct Server {
    running: Running,
    /// What it printed when it was serving.
    pub serving: Value,
    config: PathBuf,
    folder: Folder,
}

/// An agent with a directory of its own.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    config: PathBuf,
    folder: Folder,
}

impl Server {
    /// Starts one for `writ.local` on a free port, with further lines of configuration.
    #[must_use]
    pub fn start(more: &str) -> Self {
        let folder = Folder::new();
        let configured = |listen: &str| {
            let (state, private) = (folder.join("state"), folder.join("private"));
            let fixed = format!(
                "trust_domain = \"writ.local\"\nlisten = {listen:?}\nstate_dir = {state:?}\nprivate_dir = {private:?}\n"
            );
            folder.write("server.toml", fixed + more)
        };
        let config = configured("127.0.0.1:0");
        let (running, serving) = run("server", &config, &folder);
        // The next start must be found where this one was.
        configured(serving["server_address"].as_str().expect("it says where it listens"));
        Self { running, serving, config, folder }
    }

    /// Kills it without warning and starts it again.
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        kill(&mut self.running);
    }

    /// Starts it again, where it was.
    pub fn start_again(&mut self) {
        (self.running, self.serving) = run("server", &self.config, &self.folder);
    }

    /// Its own folder, with `state` in it.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Ends it in an orderly way and keeps its directory.
    #[must_use]
    pub fn down(mut self) -> Folder {
        let status = self.running.stop();
        assert!(status.success(), "an orderly end is a success, not {status}");
        self.folder
    }

    /// Stops its process for a while, or lets it go on.
    pub fn signal(&mut self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Where administrators ask.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("private/server.sock")
    }

    /// Where agents ask.
    #[must_use]
    pub fn address(&self) -> &str {
        self.serving["server_address"].as_str().expect("it says where it listens")
    }

    /// Runs `writ …` with this server.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(writ_command().args(arguments).arg("--socket").arg(self.socket()))
    }

    /// A fresh join token.
    #[track_caller]
    #[must_use]
    pub fn token(&self, node: &str) -> String {
        let token = self.run(&["token", "create", "--node", node, "--output", "json"]).done().json();
        token["token"].as_str().expect("it made one").to_owned()
    }

    /// The end of what it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.log()
    }
}

impl Agent {
    /// Joins a server as a node of this name; the directory may be one in memory.
    #[must_use]
    pub fn join(server: &Server, node: &str, folder: Folder) -> Self {
        Self::start(server, folder, &format!("token = {:?}\n", server.token(node)))
    }

    /// Starts one on a folder of the story's choice, with further lines of configuration.
    #[must_use]
    pub fn start(server: &Server, folder: Folder, more: &str) -> Self {
        let [state, private, public] = ["state", "private", "public"].map(|name| folder.join(name));
        let config = format!(
            "server = {:?}\npin = {}\nstate_dir = {state:?}\nprivate_dir = {private:?}\npublic_dir = {public:?}\n",
            server.address(),
            server.serving["server_pin"],
        );
        let config = folder.write("agent.toml", config + more);
        let (running, _) = run("agent", &config, &folder);
        Self { running, config, folder }
    }

    /// Kills it without warning and starts it again.
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        kill(&mut self.running);
    }

    /// Starts it again, where it was.
    pub fn start_again(&mut self) {
        (self.running, _) = run("agent", &self.config, &self.folder);
    }

    /// Stops its process for a while, or lets it go on.
    pub fn signal(&mut self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Its own folder, with `state` in it.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What it says of itself.
    #[must_use]
    pub fn status(&self) -> Value {
        let mut command = writ_command();
        command.args(["status", "--output", "json", "--socket"]).arg(self.socket());
        Answer::of(&mut command).json()["agent"].clone()
    }

    /// Where workloads ask.
    #[must_use]
    pub fn workload_socket(&self) -> PathBuf {
        self.folder.join("public/workload.sock")
    }

    /// Where administrators ask.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("private/agent.sock")
    }

    /// The end of what it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.log()
    }
}

fn kill(running: &mut Running) {
    running.signal(Signal::SIGKILL);
    running.ended(START);
}

/// Starts a role and waits until it says that it serves.
fn run(role: &str, config: &Path, folder: &Folder) -> (Running, Value) {
    let mut command = writ_command();
    command.args([role, "run", "--output", "json", "--config"]).arg(config);
    let running = Running::start(&mut command, role, folder.path());
    let line = running.line(START);
    let serving = serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
    (running, serving)
}
