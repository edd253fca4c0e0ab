//! A program of the demo, from outside: a copy of this binary that runs as an actor.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use registry::objects::Sha256;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::actor::{Event, Order};

const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// A binary of its own: its path, its inode and its sum are nobody else's.
pub(super) struct Binary {
    pub(super) path: PathBuf,
    pub(super) sha256: String,
}

impl Binary {
    /// Copies this binary and appends the name, which the kernel does not mind.
    pub(super) fn make(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        let make = || {
            fs::copy("/proc/self/exe", &path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            OpenOptions::new().append(true).open(&path)?.write_all(name.as_bytes())?;
            fs::read(&path)
        };
        let bytes = make().with_context(|| format!("cannot make the program {}", path.display()))?;
        Ok(Self { sha256: Sha256::of(&bytes).to_string(), path })
    }
}

/// A running program. Dropping it kills it.
pub(super) struct Program {
    process: Child,
    orders: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub(super) fn start(binary: &Binary, workload_api: &str) -> Result<Self> {
        let socket = workload_api.strip_prefix("unix://").unwrap_or(workload_api);
        let mut process = Command::new(&binary.path)
            .args(["demo-actor", socket])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("cannot start {}; is its file system mounted noexec?", binary.path.display())
            })?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (orders, said) = pipes.context("a child's input and output are piped")?;
        Ok(Self { process, orders, events: BufReader::new(said).lines() })
    }

    pub(super) fn pid(&self) -> Result<i32> {
        let pid = self.process.id().context("a program of the demo has ended")?;
        Ok(i32::try_from(pid)?)
    }

    pub(super) async fn order(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        self.orders.write_all(line.as_bytes()).await.context("a program of the demo does not listen any more")
    }

    /// What happens to it next.
    pub(super) async fn event(&mut self) -> Result<Event> {
        let line = timeout(ANSWERS_WITHIN, self.events.next_line()).await;
        match line {
            Ok(Ok(Some(line))) => {
                serde_json::from_str(&line).with_context(|| format!("a program of the demo said {line:?}"))
            }
            Ok(Ok(None)) => bail!("a program of the demo ended"),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                bail!("a program of the demo has said nothing for {} seconds", ANSWERS_WITHIN.as_secs())
            }
        }
    }
}
