//! Open Policy Agent beside us, in the same run: as many rules, the same question, with its decision log and without.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Pace;
use super::load::{Figures, Load};
use super::table::{Row, Table};
use crate::tools;

const PACKAGE: &str = "github.com/open-policy-agent/opa@v1.22.2";
const QUESTION: &str = r#"{"input":{"agent":"bench","tool":"files/read","effect":"read","args":{"path":"/srv/notes/today.md"}}}"#;

/// Ended when dropped.
struct Opa(Child);

/// How many decisions it makes, of as many rules as our policies.
pub(super) fn beside(load: &Load, pace: &Pace, rules: usize, table: &mut Table) -> Result<()> {
    let program = fetch()?;
    let folder = PathBuf::from(load.folder());
    let policy = folder.join("policy.rego");
    fs::write(&policy, rego(rules)).with_context(|| format!("cannot write {}", policy.display()))?;
    for (log, how) in [(false, "without a log"), (true, "with its decision log to a file")] {
        for clients in [1, 8] {
            let (mut rate, mut middle) = (Vec::new(), Vec::new());
            for _ in 0..pace.runs {
                let opa = Opa::start(&program, &folder, &policy, log)?;
                let figures = ask(load, &folder, clients, pace.seconds)?;
                rate.push(figures.rate);
                middle.push(figures.p50_us / 1e3);
                drop(opa);
            }
            let name = format!("OPA 1.22.2 beside it, {} rules, {how}, {clients} clients", rules + 1);
            table.add(Row::new(format!("{name}, /s"), rate));
            table.add(Row::new(format!("{name}, p50, ms"), middle));
        }
    }
    Ok(())
}

/// One rule is about who asks; all are found by the index that OPA makes of equalities.
fn rego(rules: usize) -> String {
    let mut text = "package bench\n\ndefault allow := false\n".to_owned();
    let names = (0..rules).map(|n| format!("other-{n}")).chain(["bench".to_owned()]);
    for name in names {
        // Writing to a text cannot fail.
        let _ =
            write!(text, "\nallow if {{\n\tinput.agent == \"{name}\"\n\tinput.tool == \"files/read\"\n}}\n");
    }
    text
}

fn fetch() -> Result<PathBuf> {
    let bin = tools::target().join("clients/opa");
    let program = bin.join("opa");
    if !program.exists() {
        let outside = env::temp_dir(); // no module of ours asks for this one
        tools::run(tools::go("install").current_dir(outside).arg(PACKAGE).env("GOBIN", &bin))?;
    }
    Ok(program)
}

fn ask(load: &Load, folder: &Path, clients: usize, seconds: f64) -> Result<Figures> {
    let (socket, clients, seconds) =
        (folder.join("opa.sock").display().to_string(), clients.to_string(), seconds.to_string());
    let question = ["--path", "/v1/data/bench/allow", "--body", QUESTION, "--expect", "\"result\":true"];
    let how = ["--socket", &socket, "--clients", &clients, "--seconds", &seconds];
    Figures::read(&load.ask(&[&["post"], &question[..], &how[..]].concat())?)
}

impl Opa {
    fn start(program: &Path, folder: &Path, policy: &Path, log: bool) -> Result<Self> {
        let socket = folder.join("opa.sock");
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let mut command = Command::new(program);
        command.args(["run", "--server", "--log-level", if log { "info" } else { "error" }]);
        command.args(["--disable-telemetry", "--addr", &format!("unix://{}", socket.display())]);
        if log {
            command.args(["--set", "decision_logs.console=true"]);
        }
        let said = File::create(folder.join("opa.log"))?;
        command.arg(policy).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let opa = Self(command.spawn().context("cannot start OPA")?);
        let end = Instant::now() + Duration::from_secs(10);
        while !socket.exists() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(opa)
    }
}

impl Drop for Opa {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
