//! `writ server run` and `writ agent run` with configuration files, as a package would run them. The
//! story starts them again itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::folder::Folder;
use crate::running::{Running, eventually};
use crate::writ::{Answer, writ_binary, writ_command};

const START: Duration = Duration::from_secs(30);

/// A server with a directory of its own.
#[derive(Debug)]
pub struct Server {
    running: Running,
    /// What it printed when it was serving.
    pub serving: Value,
    below: Vec<String>,
    config: PathBuf,
    folder: Folder,
}

/// An agent with a directory of its own.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    below: Vec<String>,
    config: PathBuf,
    folder: Folder,
}

impl Server {
    /// Starts one for `writ.local` on a free port, with further lines of configuration.
    #[must_use]
    pub fn start(more: &str) -> Self {
        Self::start_below(&[], "127.0.0.1:0", more)
    }

    /// Starts one that listens here, by a program that executes what it is given, such as `ip netns exec`.
    #[must_use]
    pub fn start_below(below: &[&str], listen: &str, more: &str) -> Self {
        let (folder, below) = (Folder::new(), owned(below));
        let configured = |listen: &str| {
            let (state, private) = (folder.join("state"), folder.join("private"));
            let fixed = format!(
                "trust_domain = \"writ.local\"\nlisten = {listen:?}\nstate_dir = {state:?}\nprivate_dir = {private:?}\n"
            );
            folder.write("server.toml", fixed + more)
        };
        let config = configured(listen);
        let (running, serving) = run(&below, "server", &config, &folder);
        // The next start must be found where this one was.
        configured(serving["server_address"].as_str().expect("it says where it listens"));
        Self { running, serving, below, config, folder }
    }

    /// A server where another one was, by the backup in `file`; `opened_by` are further arguments.
    #[must_use]
    pub fn restored(address: &str, file: &Path, opened_by: &[&str]) -> (Self, String) {
        let folder = Folder::new();
        let (state, private) = (folder.join("state"), folder.join("private"));
        let config = format!(
            "trust_domain = \"writ.local\"\nlisten = {address:?}\nstate_dir = {state:?}\nprivate_dir = {private:?}\n"
        );
        let config = folder.write("server.toml", config);
        let mut command = writ_command();
        command.args(["backup", "restore"]).arg(file).arg("--config").arg(&config).args(opened_by);
        let said = Answer::of(&mut command).done().out;
        let (running, serving) = run(&[], "server", &config, &folder);
        (Self { running, serving, below: Vec::new(), config, folder }, said)
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        kill(&mut self.running);
    }

    /// Ends it in an orderly way.
    pub fn stop(&mut self) {
        let status = self.running.stop();
        assert!(status.success(), "an orderly end is a success, not {status}");
    }

    /// Starts it again after it was killed or stopped.
    pub fn start_again(&mut self) {
        (self.running, self.serving) = run(&self.below, "server", &self.config, &self.folder);
    }

    /// Starts it again and waits until it has ended by itself; what it logged.
    #[must_use]
    pub fn start_in_vain(&mut self) -> String {
        let mut command = writ_command();
        command.args(["server", "run", "--config"]).arg(&self.config);
        self.running = Running::start(&mut command, "server", self.folder.path());
        self.ended()
    }

    /// Waits until it has ended by itself, with an error; what it logged.
    #[must_use]
    pub fn ended(&mut self) -> String {
        assert!(!self.running.ended(START).success(), "it ended as if all were well");
        self.running.log()
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Kills it without warning and starts it again.
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.start_again();
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
        Self::join_with(server, &server.token(node), folder)
    }

    /// Joins a server with a token that is there already.
    #[must_use]
    pub fn join_with(server: &Server, token: &str, folder: Folder) -> Self {
        Self::start(server, folder, &format!("token = {token:?}\n"))
    }

    /// Starts one on a folder of the story's choice, with further lines of configuration.
    #[must_use]
    pub fn start(server: &Server, folder: Folder, more: &str) -> Self {
        Self::start_below(&[], server, folder, more)
    }

    /// The same by a program that executes what it is given, such as `ip netns exec`.
    #[must_use]
    pub fn start_below(below: &[&str], server: &Server, folder: Folder, more: &str) -> Self {
        let (config, below) = (Self::configured(server, &folder, more), owned(below));
        let (running, _) = run(&below, "agent", &config, &folder);
        Self { running, below, config, folder }
    }

    /// Insists that nobody can join with this token; what the agent logged.
    #[must_use]
    pub fn refused(server: &Server, token: &str, folder: Folder) -> String {
        let mut command = writ_command();
        command.args(["agent", "run", "--config"]).arg(Self::configured(
            server,
            &folder,
            &format!("token = {token:?}\n"),
        ));
        let mut running = Running::start(&mut command, "agent", folder.path());
        assert!(!running.ended(START).success(), "the token was taken");
        running.log()
    }

    fn configured(server: &Server, folder: &Folder, more: &str) -> PathBuf {
        let [state, private, public] = ["state", "private", "public"].map(|name| folder.join(name));
        let config = format!(
            "server = {:?}\npin = {}\nstate_dir = {state:?}\nprivate_dir = {private:?}\npublic_dir = {public:?}\n",
            server.address(),
            server.serving["server_pin"],
        );
        folder.write("agent.toml", config + more)
    }

    /// Joins a SPIRE server with one of its tokens, asking it every second what changed.
    #[must_use]
    pub fn join_spire(server: &crate::spire::Server, token: &str) -> Self {
        Self::at_spire(server, &format!("token = {token:?}\n"), "")
    }

    /// Attests at a SPIRE server by what this table says.
    #[must_use]
    pub fn attest_at_spire(server: &crate::spire::Server, attestor: &str) -> Self {
        Self::at_spire(server, "", attestor)
    }

    fn at_spire(server: &crate::spire::Server, token: &str, attestor: &str) -> Self {
        let folder = Folder::new();
        let config = spire_config(server, token, attestor, &folder);
        let (running, _) = run(&[], "agent", &config, &folder);
        Self { running, below: Vec::new(), config, folder }
    }

    /// Starts it again with the server's present bundle and another token.
    pub fn give_again(&mut self, server: &crate::spire::Server, token: &str) {
        kill(&mut self.running);
        let token = format!("token = {token:?}\n");
        self.config = spire_config(server, &token, "", &self.folder);
        (self.running, _) = run(&self.below, "agent", &self.config, &self.folder);
    }

    /// Runs `writ …` about this agent.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(writ_command().args(arguments).arg("--socket").arg(self.socket()))
    }

    /// `writ attest test` of this file about this agent, without standard output of its own.
    #[must_use]
    pub fn attest_test(&self, file: &Path) -> Command {
        let mut command = writ_command();
        command.args(["attest", "test", "--output", "json", "--socket"]).arg(self.socket()).arg(file);
        command
    }

    /// The file of its directory that has this name.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
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
        (self.running, _) = run(&self.below, "agent", &self.config, &self.folder);
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

    /// Registers an identity on the node of this name, which is this agent's, and waits until the agent has it.
    #[track_caller]
    pub fn entry(&self, server: &Server, node: &str, path: &str, selectors: &[&str]) {
        let mut create = vec!["entry", "create", "--spiffe-id", path, "--parent", node];
        selectors.iter().for_each(|selector| create.extend(["--selector", selector]));
        let before = self.status()["entries"].as_u64();
        let _ = server.run(&create).done();
        eventually("the agent has the entry", START, || {
            (self.status()["entries"].as_u64() > before).then_some(())
        });
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

/// An agent of a SPIRE server that asks it every second what changed.
fn spire_config(server: &crate::spire::Server, token: &str, attestor: &str, folder: &Folder) -> PathBuf {
    let bundle = folder.write("spire.pem", server.commands.bundle());
    let [state, private, public] = ["state", "private", "public"].map(|name| folder.join(name));
    let config = format!(
        "server = {:?}\n{token}state_dir = {state:?}\nprivate_dir = {private:?}\npublic_dir = {public:?}\n\
         [spire]\ntrust_domain = \"writ.local\"\ntrust_bundle = {bundle:?}\nsync_interval = \"1s\"\n{attestor}",
        server.address,
    );
    folder.write("agent.toml", config)
}

fn kill(running: &mut Running) {
    running.signal(Signal::SIGKILL);
    running.ended(START);
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Starts a role and waits until it says that it serves.
fn run(below: &[String], role: &str, config: &Path, folder: &Folder) -> (Running, Value) {
    let mut command = match below {
        [] => writ_command(),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(writ_binary());
            command.env_remove("WRIT_DATA").env_remove("SPIFFE_ENDPOINT_SOCKET");
            command
        }
    };
    command.args([role, "run", "--output", "json", "--config"]).arg(config);
    let running = Running::start(&mut command, role, folder.path());
    let line = running.line(START);
    let serving = serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
    (running, serving)
}
