//! What is measured: a release build of `writ up`, in a directory of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::load::Load;
use crate::tools;

/// Ended and removed when dropped.
pub(crate) struct Subject {
    up: Child,
    ready: Value,
    data: PathBuf,
    /// From the start of the process until it said that it is ready.
    pub(crate) start_ms: f64,
}

impl Subject {
    pub(crate) fn up() -> Result<Self> {
        let data = PathBuf::from(format!("/tmp/writ-bench-{}", std::process::id()));
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
        let log = tools::target().join("bench.log");
        let log = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let begun = Instant::now();
        let mut up = writ(&data)
            .args(["up", "--output", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start writ")?;
        let mut line = String::new();
        BufReader::new(up.stdout.take().context("writ has no output")?).read_line(&mut line)?;
        let start_ms = begun.elapsed().as_secs_f64() * 1e3;
        let ready =
            serde_json::from_str(&line).context("writ up did not become ready; see target/bench.log")?;
        Ok(Self { up, ready, data, start_ms })
    }

    /// Registers an identity.
    pub(crate) fn entry(&self, path: &str, selector: &str, parent: &str) -> Result<()> {
        let entry = ["entry", "create", "--spiffe-id", path, "--selector", selector, "--parent", parent];
        tools::output(writ(&self.data).args(entry)).map(drop)
    }

    /// Waits until the first identity is served.
    pub(crate) fn ready_for_workloads(&self, load: &Load) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while let Err(error) = load.ask(&["fetch", "--socket", &self.workload_socket(), "--count", "1"]) {
            if Instant::now() > end {
                return Err(error);
            }
        }
        Ok(())
    }

    /// A command's answer as JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let text = tools::output(writ(&self.data).args(arguments).args(["--output", "json"]))?;
        serde_json::from_str(&text)
            .with_context(|| format!("writ {} did not print JSON", arguments.join(" ")))
    }

    /// The trust bundle as a SPIFFE bundle document.
    pub(crate) fn bundle(&self) -> Result<String> {
        tools::output(writ(&self.data).args(["bundle", "show", "--output", "json"]))
    }

    pub(crate) fn own_uid(&self) -> String {
        let uid = fs::metadata("/proc/self").map_or(0, |about| about.uid());
        format!("unix:uid:{uid}")
    }

    pub(crate) fn node(&self) -> String {
        format!("spiffe://{}/spire/agent/join_token/local", self.text("trust_domain"))
    }

    pub(crate) fn workload_socket(&self) -> String {
        self.text("workload_api").trim_start_matches("unix://").to_owned()
    }

    pub(crate) fn server_socket(&self) -> String {
        self.text("server_admin").trim_start_matches("unix://").to_owned()
    }

    pub(crate) fn text(&self, key: &str) -> String {
        self.ready[key].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn agent_pid(&self) -> u64 {
        self.ready["agent_pid"].as_u64().unwrap_or_default()
    }

    pub(crate) fn server_pid(&self) -> u64 {
        self.ready["server_pid"].as_u64().unwrap_or_default()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let asked = Command::new("kill").arg(self.up.id().to_string()).status();
        if asked.is_err() {
            let _ = self.up.kill();
        }
        let _ = self.up.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}

fn writ(data: &PathBuf) -> Command {
    let mut command = Command::new(tools::target().join("release/writ"));
    command.env("WRIT_DATA", data).env_remove("SPIFFE_ENDPOINT_SOCKET");
    command
}

/// CPU time that a process has used, in ticks of a hundredth of a second.
#[derive(Clone, Copy)]
pub(crate) struct Ticks(u64);

impl Ticks {
    pub(crate) fn of(pid: u64) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
        // The command in parentheses may hold spaces; user and system time are the 12th and 13th field after it.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let [Some(user), Some(system)] =
            [11, 12].map(|at| fields.get(at).and_then(|field| field.parse::<u64>().ok()))
        else {
            bail!("/proc/{pid}/stat is not as it should be");
        };
        Ok(Self(user + system))
    }

    /// Microseconds since an earlier look.
    pub(crate) fn since(self, before: Self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let ticks = (self.0 - before.0) as f64;
        ticks * 10_000.0
    }
}

/// What a process holds in memory.
pub(crate) fn resident_mib(pid: u64) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().context("VmRSS is not a number")?;
    Ok(kib / 1024.0)
}
