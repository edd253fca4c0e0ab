//! `writ run`: have the agent measure a command and start it, and be its terminal until it ends.

mod terminal;

use std::{ffi::OsString, fmt::Write as _, io, os::unix::ffi::OsStringExt as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use peer::Peer;
use serde::Deserialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use self::terminal::Terminal;
use super::{
    Shared,
    output::{self, Format, plain},
    own_task,
};
use crate::wire::{
    launch::{Asked, Launch, Told, launch},
    task::Wish,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ run -- python3 agent.py --mode fast            measured, then run; its exit code is this command's
  writ run --measure-only -- python3 agent.py         what an administrator registers, without running it
  writ run -- java -jar agent.jar
  writ run -- ./agent                                 a binary
  writ run --mandate report --param to=ops@acme.example -- ./agent      as one task, which ends with it

What counts is in docs/launch.md. An entry asks for it by --selector launch:measurement:HEX.";

/// A command to be measured and run.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Print what would be measured, and what an administrator would register, and run nothing.
    #[arg(long)]
    measure_only: bool,
    /// Make the command a task under this mandate: its processes act by it, and it ends with the command.
    #[arg(long, value_name = "NAME", conflicts_with = "measure_only")]
    mandate: Option<String>,
    /// A parameter of the mandate, as often as it has some.
    #[arg(long = "param", value_name = "NAME=VALUE", requires = "mandate")]
    params: Vec<String>,
    /// What the task does, for whoever reads it later. No decision reads it.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "mandate")]
    note: String,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) async fn run(run: Run, shared: &Shared) -> Result<ExitCode> {
    let socket = shared.sockets.workload()?;
    let command = run.command.into_iter().map(|word| word.into_vec().into()).collect();
    if run.measure_only {
        let asked = Asked { command, measure_only: true, descriptors: [0, 1, 2], terminal: None, task: None };
        return measure(launch(&socket, asked).await?, shared.output).await;
    }
    let task = match run.mandate {
        Some(mandate) => {
            Some(Wish { mandate, params: own_task::params(&run.params)?, ttl: 0, note: run.note })
        }
        None => None,
    };
    // From here on signals are the command's.
    let mut signals = signals()?;
    let terminal = Terminal::open().context("cannot make a terminal for the command")?;
    let (descriptors, controlling) = terminal.as_ref().map_or(([0, 1, 2], None), Terminal::descriptors);
    let asked = Asked { command, measure_only: false, descriptors, terminal: controlling, task };
    let mut launch = launch(&socket, asked).await?;
    let mut relay = None;
    let mut process: Option<Peer> = None;
    let mut terminal = terminal;
    // Signals that come while the command begins, and whether it does already.
    let (mut early, mut begins) = (Vec::new(), false);
    let code = loop {
        tokio::select! {
            told = launch.next() => match told {
                Ok(Some(Told::Measuring(files, bytes))) => progress(files, bytes),
                Ok(Some(Told::Measured(_))) => begins = true,
                Ok(Some(Told::Started(pid, task))) => {
                    if !task.is_empty() {
                        output::remark(&format!("writ: task {}", plain(&task)));
                    }
                    // A command that is over already cannot be held, and need not be.
                    process = u32::try_from(pid).ok().and_then(|pid| Peer::open(pid).ok());
                    for number in early.drain(..) {
                        tell(process.as_ref(), number);
                    }
                    relay = terminal.take().map(Terminal::relay).transpose().context("cannot relay the terminal")?;
                }
                Ok(Some(Told::Ended(code))) => break code,
                Ok(None) | Err(_) if process.is_some() => {
                    drop(relay);
                    return outlast(process, signals).await;
                }
                Ok(None) => bail!("the agent ended before the command began"),
                Err(error) => return Err(error),
            },
            Some(number) = signals.recv() => {
                if let Some(relay) = relay.as_ref().filter(|_| number == window_change()) {
                    relay.resize();
                }
                if process.is_some() {
                    tell(process.as_ref(), number);
                } else if begins {
                    early.push(number);
                } else if number != window_change() {
                    // Nothing runs yet; the agent notices that nobody waits.
                    return Ok(exit(128 + number));
                }
            }
        }
    };
    if let Some(relay) = relay {
        relay.finish();
    }
    Ok(exit(code))
}

/// The agent is gone, perhaps to be started again; the command goes on, and so does this.
async fn outlast(process: Option<Peer>, mut signals: mpsc::Receiver<i32>) -> Result<ExitCode> {
    let Some(process) = process else { bail!("the agent ended") };
    output::remark("writ: the agent has ended; the command goes on, but its exit code will not be known");
    loop {
        tokio::select! {
            () = process.exited() => bail!("the command ended after the agent did, so its exit code is not known"),
            Some(number) = signals.recv() => tell(Some(&process), number),
        }
    }
}

/// Sends the command a signal. It may have ended at this moment.
fn tell(process: Option<&Peer>, number: i32) {
    if let Some(process) = process {
        let _ = process.signal(number);
    }
}

/// Every signal that is meant for the command.
fn signals() -> io::Result<mpsc::Receiver<i32>> {
    let (sender, receiver) = mpsc::channel(16);
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::window_change(),
    ] {
        let mut signal = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if sender.send(kind.as_raw_value()).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

async fn measure(mut launch: Launch, format: Format) -> Result<ExitCode> {
    loop {
        match launch.next().await? {
            Some(Told::Measuring(files, bytes)) => progress(files, bytes),
            Some(Told::Measured(json)) => {
                let json = String::from_utf8(json).context("the agent's answer is not text")?;
                match format {
                    Format::Json => output::line(&json)?,
                    Format::Text => {
                        let measured: Measured =
                            serde_json::from_str(&json).context("the agent's answer is of a newer kind")?;
                        output::line(measured.to_text().trim_end())?;
                    }
                }
                return Ok(ExitCode::SUCCESS);
            }
            Some(Told::Started(..) | Told::Ended(_)) => {}
            None => bail!("the agent ended before everything was measured"),
        }
    }
}

fn progress(files: u64, bytes: u64) {
    output::remark(&format!("writ: measured {files} files, {} MiB so far", bytes >> 20));
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn window_change() -> i32 {
    SignalKind::window_change().as_raw_value()
}

/// What the agent measured, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Measured {
    selectors: Vec<String>,
    parts: Vec<Part>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Part {
    name: String,
    value: String,
}

impl Measured {
    fn to_text(&self) -> String {
        let heading = ["MEASURED", "VALUE"].map(str::to_owned).to_vec();
        let parts = self.parts.iter().map(|part| [&part.name, &part.value].map(|cell| plain(cell)).to_vec());
        let mut text = output::table(&std::iter::once(heading).chain(parts).collect::<Vec<_>>());
        text.push_str("\nselectors\n");
        for selector in &self.selectors {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {}", plain(selector));
        }
        if let Some(first) = self.selectors.first() {
            let _ = writeln!(
                text,
                "\nto register it\n  writ entry create --spiffe-id /NAME --parent NODE --selector {}",
                plain(first)
            );
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "\nnot covered: {}", plain(warning));
        }
        text
    }
}
