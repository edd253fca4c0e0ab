//! One daemon as a child process of this one.

use std::{
    env,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// A daemon that has not said that it serves by then does not.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// A daemon that has not ended by then is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const LONGEST_LINE: u64 = 64 * 1024;

/// Which daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    Server,
    Agent,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }
}

/// How to run a daemon.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) role: Role,
    pub(super) config: PathBuf,
    /// What it logs, where the environment does not say.
    pub(super) logs: &'static str,
}

/// A daemon that runs. Dropping it kills it.
pub(super) struct Child {
    process: tokio::process::Child,
    /// Its end tells the child that we are gone.
    _life_line: Option<ChildStdin>,
    /// Kept open, so that whatever the child still says is no error there.
    _said: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a daemon and waits until it serves; gives back what it then says of itself.
    pub(super) async fn start<Serving: DeserializeOwned>(order: &Order) -> Result<(Self, Serving)> {
        let name = order.role.name();
        let mut process = command(order).spawn().with_context(|| format!("cannot start the {name}"))?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let mut said = BufReader::new(stdout.context("a child's output is piped")?);
        let mut line = String::new();
        let heard = timeout(SERVES_WITHIN, (&mut said).take(LONGEST_LINE).read_line(&mut line)).await;
        let mut child = Self { process, _life_line: stdin, _said: said };
        match heard {
            Ok(Ok(1..)) => {}
            Ok(_) => {
                let status = child.process.wait().await.context("a child can be waited for")?;
                bail!("the {name} ended before it served ({status}); what it said stands above");
            }
            Err(_) => bail!("the {name} does not serve after {} seconds", SERVES_WITHIN.as_secs()),
        }
        let serving =
            serde_json::from_str(&line).with_context(|| format!("the {name} said something else: {line}"))?;
        Ok((child, serving))
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&mut self) -> String {
        match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Ends it in an orderly way, or by force where it does not.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            // Nobody has waited for it, so the id is still its own. That it has ended already is no error.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if timeout(ENDS_WITHIN, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }
}

fn command(order: &Order) -> Command {
    let mut command = Command::new(own_binary());
    command
        .arg0(env::args_os().next().unwrap_or_else(|| "writ".into()))
        .args([order.role.name(), "run", "--supervised", "--output", "json", "--config"])
        .arg(&order.config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C on the terminal is for us; we tell the children, the agent first.
        .process_group(0)
        .kill_on_drop(true);
    if env::var_os("WRIT_LOG").is_none() {
        command.env("WRIT_LOG", order.logs);
    }
    command
}

/// This very binary: by its name, for whoever looks at the list of processes, unless another file has
/// been put in its place meanwhile.
fn own_binary() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    let inode = |path: &Path| path.metadata().map(|about| (about.dev(), about.ino())).ok();
    match env::current_exe() {
        Ok(named) if inode(&named).is_some() && inode(&named) == inode(&running) => named,
        _ => running,
    }
}
