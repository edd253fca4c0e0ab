//! The gate of the demo: a copy of this binary that runs `mcp serve`, with the tools behind it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::program::Binary;

const SERVES_WITHIN: Duration = Duration::from_secs(30);

/// A gate that serves. Dropping it kills it, and with it the tools behind it.
pub(super) struct Gate {
    pub(super) socket: PathBuf,
    pub(super) pid: u32,
    /// What reached the tools.
    reached: PathBuf,
    _process: Child,
    _said: BufReader<ChildStdout>,
}

impl Gate {
    pub(super) async fn start(dir: &Path, binary: &Binary, config: &Path) -> Result<Self> {
        let reached = dir.join("reached-the-tools");
        let log = fs::File::create(&reached).context("cannot make a file in the demo's directory")?;
        let mut command = Command::new(&binary.path);
        command.args(["mcp", "serve", "--output", "json", "--config"]).arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        // Its own remarks would stand between what its tools say.
        let mut process = command.env("WRIT_LOG", "error").spawn().context("cannot start the gate")?;
        let mut said = BufReader::new(process.stdout.take().context("a child's output is piped")?);
        let mut line = String::new();
        timeout(SERVES_WITHIN, said.read_line(&mut line)).await.context("the gate does not serve")??;
        let serving: serde_json::Value = serde_json::from_str(&line).with_context(|| {
            format!("the gate ended before it served: {}", fs::read_to_string(&reached).unwrap_or_default())
        })?;
        let socket = serving["mcp"].as_str().context("the gate does not say where it serves")?.into();
        let pid = process.id().context("the gate has ended")?;
        Ok(Self { socket, pid, reached, _process: process, _said: said })
    }

    /// Every call that reached the tools, in order.
    pub(super) fn reached(&self) -> Result<Vec<String>> {
        let lines = fs::read_to_string(&self.reached).context("what reached the tools is not known")?;
        let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
        ensure!(!lines.is_empty(), "nothing reached the tools");
        Ok(lines)
    }
}
