//! SPIRE's own programs, unmodified, as `cargo xtask test` built them.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::folder::Folder;
use crate::needs;
use crate::running::{Running, eventually};
use crate::writ::Answer;

/// How long one of them may take to be up, or to do something that it does every few seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The command line of `spire-server`, speaking to any server's private socket.
#[derive(Clone, Debug)]
pub struct Commands {
    program: PathBuf,
    socket: PathBuf,
}

/// A SPIRE server for `writ.local` with a directory of its own. It asks its database every second.
#[derive(Debug)]
pub struct Server {
    running: Running,
    /// Its command line.
    pub commands: Commands,
    /// Where agents ask.
    pub address: String,
    config: PathBuf,
    folder: Folder,
}

/// A SPIRE agent with a directory of its own.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    program: PathBuf,
    config: PathBuf,
    folder: Folder,
}

/// Whose server an agent joins, and how it knows it.
#[derive(Clone, Copy, Debug)]
pub struct Joining<'a> {
    /// The trust domain.
    pub trust_domain: &'a str,
    /// The server's address.
    pub address: &'a str,
    /// Certificates, in PEM.
    pub bundle: &'a str,
    /// The join token; empty where it attests by something else.
    pub token: &'a str,
}

impl Commands {
    /// Speaks to the server behind this socket; `None` where the program was not built.
    #[must_use]
    pub fn at(socket: PathBuf) -> Option<Self> {
        Some(Self { program: needs::spire("spire-server")?, socket })
    }

    /// Runs `spire-server …`.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command(arguments).arg("-socketPath").arg(&self.socket))
    }

    /// The same, with its answer as JSON; it must succeed.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Value {
        let json = [arguments, &["-output", "json"]].concat();
        self.run(&json).done().json()
    }

    /// A fresh join token.
    #[track_caller]
    #[must_use]
    pub fn token(&self) -> String {
        self.ask(&["token", "generate"])["value"].as_str().expect("it made one").to_owned()
    }

    /// The server's own bundle, in PEM.
    #[track_caller]
    #[must_use]
    pub fn bundle(&self) -> String {
        self.run(&["bundle", "show"]).done().out
    }

    /// Creates an entry and returns its id.
    #[track_caller]
    pub fn entry(&self, id: &str, parent: &str, selector: &str, more: &[&str]) -> String {
        let entry = ["entry", "create", "-spiffeID", id, "-parentID", parent, "-selector", selector];
        let made = self.ask(&[&entry, more].concat());
        let id = &made["results"][0]["entry"]["id"];
        id.as_str().unwrap_or_else(|| panic!("an entry was not made: {made}")).to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command
    }
}

impl Server {
    /// Starts one, with further lines in its `server` block; `None` where it was not built.
    #[must_use]
    pub fn start(more: &str) -> Option<Self> {
        Self::start_with_keys("disk", more)
    }

    /// The same with keys that are kept on disk, or in memory only.
    #[must_use]
    pub fn start_with_keys(keys: &str, more: &str) -> Option<Self> {
        Self::start_with_plugins(keys, more, "NodeAttestor \"join_token\" { plugin_data {} }")
    }

    /// One whose agents attest by this plugin with this configuration, and not by tokens.
    #[must_use]
    pub fn start_with_attestor(name: &str, data: &str) -> Option<Self> {
        Self::start_with_plugins(
            "disk",
            "",
            &format!("NodeAttestor \"{name}\" {{ plugin_data {{ {data} }} }}"),
        )
    }

    fn start_with_plugins(keys: &str, more: &str, attestor: &str) -> Option<Self> {
        let program = needs::spire("spire-server")?;
        let folder = Folder::new();
        let socket = folder.join("api.sock");
        let port = free_port();
        let (data, store) = (folder.join("data"), folder.join("data/store.sqlite3"));
        let key_file = match keys {
            "disk" => format!("keys_path = {:?}", folder.join("data/keys.json")),
            _ => String::new(),
        };
        let config = format!(
            r#"server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = {socket:?}
    trust_domain = "writ.local"
    data_dir = {data:?}
    log_level = "INFO"
    experimental {{ cache_reload_interval = "1s" }}
    {more}
}}
plugins {{
    DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = {store:?} }} }}
    {attestor}
    KeyManager "{keys}" {{ plugin_data {{ {key_file} }} }}
}}
"#
        );
        let config = folder.write("server.conf", config);
        let commands = Commands { program, socket };
        let running = start(&commands.command(&["run", "-config"]), &config, "spire-server", &folder);
        let server = Self { running, commands, address: format!("127.0.0.1:{port}"), config, folder };
        server.healthy();
        Some(server)
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        kill(&mut self.running);
    }

    /// Kills it without warning and starts it again.
    pub fn kill_and_start(&mut self) {
        self.kill();
        let command = self.commands.command(&["run", "-config"]);
        self.running = start(&command, &self.config, "spire-server", &self.folder);
        self.healthy();
    }

    fn healthy(&self) {
        let answers = || (self.commands.run(&["healthcheck"]).code == 0).then_some(());
        eventually("the SPIRE server is healthy", PATIENCE, answers);
    }
}

impl Agent {
    /// Starts one that joins; `None` where it was not built.
    #[must_use]
    pub fn join(joining: Joining<'_>) -> Option<Self> {
        Self::begin(joining).map(Self::listening)
    }

    /// Starts one that attests by a plugin of its own, with this configuration in its `plugins` block,
    /// and not by its token.
    #[must_use]
    pub fn attest(joining: Joining<'_>, plugin: &str) -> Option<Self> {
        Self::begin_with(joining, plugin).map(Self::listening)
    }

    fn listening(agent: Self) -> Self {
        let socket = agent.workload_socket();
        let log = || agent.log();
        eventually(&format!("the SPIRE agent listens\n{}", log()), PATIENCE, || {
            UnixStream::connect(&socket).ok()
        });
        agent
    }

    /// The same without waiting until it serves.
    #[must_use]
    pub fn begin(joining: Joining<'_>) -> Option<Self> {
        Self::begin_with(joining, "NodeAttestor \"join_token\" { plugin_data {} }")
    }

    /// The same by any plugin, without waiting until it serves.
    #[must_use]
    pub fn begin_with(joining: Joining<'_>, plugin: &str) -> Option<Self> {
        let program = needs::spire("spire-agent")?;
        let folder = Folder::new();
        let (host, port) = joining.address.rsplit_once(':').expect("an address has a port");
        let bundle = folder.write("bundle.pem", joining.bundle);
        let (data, socket) = (folder.join("data"), folder.join("public/api.sock"));
        let Joining { trust_domain, token, .. } = joining;
        let token = if token.is_empty() { String::new() } else { format!("join_token = \"{token}\"") };
        let config = format!(
            r#"agent {{
    data_dir = {data:?}
    log_level = "INFO"
    server_address = "{host}"
    server_port = "{port}"
    socket_path = {socket:?}
    trust_bundle_path = {bundle:?}
    trust_domain = "{trust_domain}"
    {token}
    experimental {{ sync_interval = "1s" }}
}}
plugins {{
    {plugin}
    KeyManager "disk" {{ plugin_data {{ directory = {data:?} }} }}
    WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"#
        );
        let config = folder.write("agent.conf", config);
        let mut command = Command::new(&program);
        command.args(["run", "-config"]);
        let running = start(&command, &config, "spire-agent", &folder);
        Some(Self { running, program, config, folder })
    }

    /// Kills it without warning and starts it again.
    pub fn kill_and_start(&mut self) {
        kill(&mut self.running);
        // What it leaves behind would look like a socket that is served.
        let _ = std::fs::remove_file(self.workload_socket());
        let mut command = Command::new(&self.program);
        command.args(["run", "-config"]);
        self.running = start(&command, &self.config, "spire-agent", &self.folder);
        let socket = self.workload_socket();
        eventually("the SPIRE agent listens again", PATIENCE, || UnixStream::connect(&socket).ok());
    }

    /// Runs `spire-agent …` as a workload of this agent.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(Command::new(&self.program).args(arguments).arg("-socketPath").arg(self.workload_socket()))
    }

    /// Where workloads ask.
    #[must_use]
    pub fn workload_socket(&self) -> PathBuf {
        self.folder.join("public/api.sock")
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        self.running.ended(limit)
    }

    /// The end of what it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.log()
    }
}

/// Their logs go where a test that fails shows them.
fn start(command: &Command, config: &Path, name: &str, folder: &Folder) -> Running {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$@\" 1>&2", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .arg(config);
    Running::start(&mut shell, name, folder.path())
}

fn kill(running: &mut Running) {
    running.signal(Signal::SIGKILL);
    running.ended(PATIENCE);
}

/// A port that nobody has: SPIRE takes no other than the one it is told.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are ports");
    listener.local_addr().expect("it is bound").port()
}
