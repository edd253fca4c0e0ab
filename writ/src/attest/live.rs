//! Things that are started for a test, and ended with it: a process, a launch, a container, a unit.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, User},
};
use tokio::time::timeout;

use super::file::{Container, Engine, Launched, Program, Subject, Unit};
use crate::{
    cli::sockets::Sockets,
    wire::launch::{Asked, Launch, Told, launch},
};

/// What runs for a test. Whatever was started is ended when this is dropped.
pub(crate) struct Running {
    pub(crate) pid: i32,
    started: Started,
}

enum Started {
    /// It was there before.
    Nothing,
    Child(Child),
    /// The agent ends it with this very process.
    Launched {
        _launch: Box<Launch>,
        _null: File,
    },
    /// What the command line of an engine or of systemd must be told.
    Told {
        end: Vec<String>,
    },
}

impl Running {
    /// Starts what a test is about; facts need nothing that runs.
    pub(crate) async fn start(
        subject: &Subject,
        within: Duration,
        sockets: &Sockets,
    ) -> Result<Option<Self>> {
        let running = match subject {
            Subject::Facts(_) => return Ok(None),
            Subject::Process(program) => child(command(&program.command)?, program)?,
            Subject::Launch(launched) => launched_by_agent(launched, &sockets.workload()?, within).await?,
            Subject::Container(container) => in_container(container, within).await?,
            Subject::Unit(unit) => in_unit(unit, within).await?,
            Subject::PidOf(asked) => {
                let pid = pid(&tell(asked, within).await?)?;
                Self { pid, started: Started::Nothing }
            }
        };
        Ok(Some(running))
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        match &mut self.started {
            Started::Child(child) => child.try_wait(),
            Started::Nothing | Started::Launched { .. } | Started::Told { .. } => Ok(None),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match &mut self.started {
            Started::Nothing | Started::Launched { .. } => {}
            Started::Child(child) => {
                // Not reaped yet, so the group is still its own.
                if matches!(child.try_wait(), Ok(None)) {
                    let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
                }
                let _ = child.wait();
            }
            Started::Told { end } => {
                if let Ok(mut end) = command(end) {
                    let _ = end.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
                }
            }
        }
    }
}

/// A program of this command's own.
fn child(mut command: Command, program: &Program) -> Result<Running> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if let Some(name) = &program.user {
        let user = User::from_name(name).with_context(|| format!("cannot look up the user {name}"))?;
        let user = user.with_context(|| format!("there is no user {name} here"))?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let child = command.spawn().with_context(|| format!("cannot start {}", program.command[0]))?;
    let pid = i32::try_from(child.id()).context("it has no process id")?;
    Ok(Running { pid, started: Started::Child(child) })
}

/// The same, measured and started by the agent. Nobody reads what it prints.
async fn launched_by_agent(launched: &Launched, socket: &Path, within: Duration) -> Result<Running> {
    let null = File::options().read(true).write(true).open("/dev/null").context("cannot open /dev/null")?;
    let descriptor = u32::try_from(null.as_raw_fd()).context("a descriptor is not negative")?;
    let command = launched.command.iter().map(|word| word.clone().into_bytes().into()).collect();
    let asked =
        Asked { command, measure_only: false, descriptors: [descriptor; 3], terminal: None, task: None };
    let begun = async {
        let mut launch = launch(socket, asked).await?;
        loop {
            match launch.next().await? {
                Some(Told::Started(pid, _)) => return Ok((pid, launch)),
                Some(Told::Ended(code)) => bail!("it ended at once, with exit code {code}"),
                Some(Told::Measuring(..) | Told::Measured(_)) => {}
                None => bail!("the agent ended before the command began"),
            }
        }
    };
    let begun = timeout(within, begun).await.map_err(|_| anyhow!("it was not launched within {within:?}"))?;
    let (pid, launch) = begun.with_context(|| format!("cannot launch {}", launched.command[0]))?;
    Ok(Running { pid, started: Started::Launched { _launch: Box::new(launch), _null: null } })
}

async fn in_container(container: &Container, within: Duration) -> Result<Running> {
    let engine = match container.engine {
        Engine::Docker => "docker",
        Engine::Podman => "podman",
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut started = Started::Nothing;
    let name = match (&container.name, &container.image) {
        (Some(name), _) => name.clone(),
        (None, Some(image)) => {
            let mut run = words(&[engine, "run", "--detach"]);
            run.extend(container.options.iter().cloned());
            run.push(image.clone());
            run.extend(container.command.iter().cloned());
            let id = tell(&run, within).await?.trim().to_owned();
            started = Started::Told { end: words(&[engine, "rm", "--force", "--volumes", &id]) };
            id
        }
        (None, None) => bail!("a container has either the name of one that runs or an image to start"),
    };
    let mut running = Running { pid: 0, started };
    let asked = words(&[engine, "inspect", "--format", "{{.State.Pid}}", &name]);
    running.pid = pid(&tell(&asked, within).await?)?;
    Ok(running)
}

async fn in_unit(unit: &Unit, within: Duration) -> Result<Running> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut started = Started::Nothing;
    let name = match &unit.name {
        Some(name) => name.clone(),
        None => {
            let name = format!("writ-attest-test-{}.service", std::process::id());
            let mut run = words(&["systemd-run", "--quiet", "--collect", "--unit", &name]);
            run.extend(unit.properties.iter().map(|property| format!("--property={property}")));
            run.push("--".to_owned());
            run.extend(unit.command.iter().cloned());
            let _ = tell(&run, within).await?;
            started = Started::Told { end: words(&["systemctl", "stop", &name]) };
            name
        }
    };
    let mut running = Running { pid: 0, started };
    let asked = words(&["systemctl", "show", "--property", "MainPID", "--value", &name]);
    running.pid = pid(&tell(&asked, within).await?)?;
    Ok(running)
}

fn command(words: &[String]) -> Result<Command> {
    let (program, arguments) = words.split_first().context("a command names a program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// Runs a command to its end and reads what it prints.
async fn tell(words: &[String], within: Duration) -> Result<String> {
    let mut command = tokio::process::Command::from(command(words)?);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let shown = words.join(" ");
    let output = timeout(within, command.output()).await;
    let output = output.map_err(|_| anyhow!("`{shown}` did not end within {within:?}"))?;
    let output = output.with_context(|| format!("cannot start `{}`", words[0]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{shown}` failed: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The process id that a command printed.
fn pid(printed: &str) -> Result<i32> {
    let pid = printed.trim().parse().ok().filter(|pid| *pid > 0);
    pid.with_context(|| format!("{:?} is no process id: does it run?", printed.trim()))
}
