//! The load client, a Go program that knows both products only by their published interfaces.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::subject::Subject;
use crate::tools;

/// What one run of the client saw.
#[derive(Deserialize)]
pub(crate) struct Figures {
    pub(crate) operations: f64,
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Figures {
    pub(crate) fn read(value: &Value) -> Result<Self> {
        let figures: Self =
            serde_json::from_value(value.clone()).context("the load client printed no figures")?;
        ensure!(figures.operations > 0.0, "the load client did nothing");
        Ok(figures)
    }
}

/// The client and a folder for what it needs.
pub(crate) struct Load {
    program: PathBuf,
    folder: PathBuf,
}

impl Load {
    pub(crate) fn new() -> Result<Self> {
        let folder = PathBuf::from(format!("/tmp/writ-load-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { program: tools::go_client("go/load"), folder })
    }

    pub(crate) fn folder(&self) -> String {
        self.folder.display().to_string()
    }

    /// Runs one verb.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value> {
        ask(&self.program, arguments)
    }

    pub(crate) fn fetch(&self, socket: &str, clients: usize, seconds: f64, how: How) -> Result<Figures> {
        fetch(&self.program, socket, clients, seconds, how, 0)
    }

    /// Eight clients, each over a kept connection, fetch tokens or have one judged.
    pub(crate) fn jwt(&self, socket: &str, what: &str, seconds: f64) -> Result<Figures> {
        let seconds = seconds.to_string();
        let arguments = ["jwt", "--socket", socket, "--what", what, "--clients", "8", "--seconds", &seconds];
        Figures::read(&self.ask(&arguments)?)
    }

    pub(crate) fn entries(&self, subject: &Subject, from: usize, count: usize) -> Result<Figures> {
        let (admin, node) = (subject.server_socket(), subject.node());
        let (from, count) = (from.to_string(), count.to_string());
        Figures::read(
            &self.ask(&[
                "entries", "--admin", &admin, "--parent", &node, "--from", &from, "--count", &count,
            ])?,
        )
    }

    /// Joins as a node of its own and has keys or tokens signed.
    pub(crate) fn sign(
        &self,
        subject: &Subject,
        what: Signed,
        connections: usize,
        seconds: f64,
    ) -> Result<Figures> {
        let token = subject.ask(&["token", "create", "--node", "bench"])?;
        let token = token["token"].as_str().context("no token")?.to_owned();
        let bundle = self.folder.join("bundle.json");
        fs::write(&bundle, subject.bundle()?)?;
        let (admin, server, domain) =
            (subject.server_socket(), subject.text("server_address"), subject.text("trust_domain"));
        let (bundle, connections, seconds) =
            (bundle.display().to_string(), connections.to_string(), seconds.to_string());
        Figures::read(&self.ask(&[
            "sign",
            "--what",
            what.name(),
            "--admin",
            &admin,
            "--server",
            &server,
            "--token",
            &token,
            "--trust-domain",
            &domain,
            "--bundle",
            &bundle,
            "--connections",
            &connections,
            "--seconds",
            &seconds,
        ])?)
    }

    /// Opens streams and keeps them until what is returned is dropped.
    pub(crate) fn hold_streams(&self, socket: &str, count: usize) -> Result<Started> {
        let count = count.to_string();
        self.start(&["streams", "--socket", socket, "--count", &count, "--seconds", "60"], socket.into())
    }

    /// A gRPC server that answers everybody the same.
    pub(crate) fn still_server(&self) -> Result<Started> {
        let socket = self.folder.join("still.sock").display().to_string();
        self.start(&["serve", "--socket", &socket], socket.clone())
    }

    /// Starts a verb that prints one line when it is there.
    fn start(&self, arguments: &[&str], socket: String) -> Result<Started> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the load client")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it has no output")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "load {} ended at once", arguments[0]);
        Ok(Started { child, socket })
    }

    /// A copy of the client that is as large as asked; what follows a program's end does not matter to it.
    pub(crate) fn large_copy(&self, size: u64) -> Result<Large> {
        let program = self.folder.join("large");
        fs::copy(&self.program, &program).context("cannot copy the load client")?;
        let file = fs::OpenOptions::new().append(true).open(&program)?;
        file.set_len(size)?;
        file.sync_all()?;
        Ok(Large { program })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn ask(program: &Path, arguments: &[&str]) -> Result<Value> {
    let output = Command::new(program).args(arguments).output().context("cannot start the load client")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8(output.stdout).context("the load client printed no text")?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("load {} printed no figures", arguments[0]))
}

/// The verb `fetch`; a count of 0 means by time alone.
fn fetch(
    program: &Path,
    socket: &str,
    clients: usize,
    seconds: f64,
    how: How,
    count: usize,
) -> Result<Figures> {
    let (clients, seconds, count) = (clients.to_string(), seconds.to_string(), count.to_string());
    let mut arguments =
        vec!["fetch", "--socket", socket, "--clients", &clients, "--seconds", &seconds, "--count", &count];
    match how {
        How::Lean => arguments.push("--lean"),
        How::Grpc => {}
        How::GrpcKept => arguments.push("--reuse"),
    }
    Figures::read(&ask(program, &arguments)?)
}

/// What a server signs.
#[derive(Clone, Copy)]
pub(crate) enum Signed {
    /// X509-SVIDs.
    Keys,
    /// JWT-SVIDs.
    Tokens,
    /// X509-SVIDs for certificate requests, over the wire of SPIRE's agents.
    Requests,
}

impl Signed {
    fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
        }
    }
}

/// By which client something is fetched.
#[derive(Clone, Copy)]
pub(crate) enum How {
    /// One that speaks HTTP/2 frames: what is measured is the agent.
    Lean,
    /// grpc-go, a new channel each time: its set-up takes most of the two cores.
    Grpc,
    /// grpc-go, one channel kept.
    GrpcKept,
}

/// A client of unusual size.
pub(crate) struct Large {
    program: PathBuf,
}

impl Large {
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn fetch(&self, socket: &str, seconds: f64, count: usize) -> Result<Figures> {
        fetch(&self.program, socket, 1, seconds, How::Grpc, count)
    }
}

/// Ended when dropped.
pub(crate) struct Started {
    child: Child,
    socket: String,
}

impl Started {
    pub(crate) fn pid(&self) -> u64 {
        self.child.id().into()
    }

    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
