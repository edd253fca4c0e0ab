//! `writ.launch.v1`: asking the agent to measure and start a command.

use std::path::Path;

use anyhow::{Error, Result};
use proto::writ::launch::v1::{
    Ended, Measured, Progress, RunEvent, RunRequest, Started, ended::How, launch_client::LaunchClient,
    run_event::Event,
};
use tonic::Streaming;

use super::task::Wish;

/// What to ask for.
pub(crate) struct Asked {
    /// The program and its arguments.
    pub(crate) command: Vec<bytes::Bytes>,
    /// Start nothing.
    pub(crate) measure_only: bool,
    /// This process's descriptors for the command's standard input, output and error.
    pub(crate) descriptors: [u32; 3],
    /// Which of the three is to be its controlling terminal.
    pub(crate) terminal: Option<usize>,
    /// The task that it is to be.
    pub(crate) task: Option<Wish>,
}

/// What the agent tells meanwhile.
pub(crate) enum Told {
    /// So many files and bytes so far.
    Measuring(u64, u64),
    /// What was measured, as JSON.
    Measured(Vec<u8>),
    /// It runs as this process, and as this task; an empty name is none.
    Started(i32, String),
    /// It has ended, with an exit code as a shell would give it.
    Ended(i32),
}

/// The agent's answers, until the command has ended.
pub(crate) struct Launch {
    events: Streaming<RunEvent>,
}

/// Asks the agent behind `socket`.
pub(crate) async fn launch(socket: &Path, asked: Asked) -> Result<Launch> {
    let [stdin, stdout, stderr] = asked.descriptors;
    let Wish { mandate, params, note, .. } = asked.task.unwrap_or_default();
    let terminal = asked.terminal.map_or(0, |n| u32::try_from(n + 1).unwrap_or(0));
    let request = RunRequest {
        command: asked.command,
        measure_only: asked.measure_only,
        stdin,
        stdout,
        stderr,
        terminal,
        mandate,
        params: params.into(),
        note,
    };
    let mut agent = LaunchClient::new(super::connect(socket).await?);
    let events = agent.run(request).await.map_err(|status| Error::msg(status.message().to_owned()))?;
    Ok(Launch { events: events.into_inner() })
}

impl Launch {
    /// What comes next; `None` when the agent has said all.
    pub(crate) async fn next(&mut self) -> Result<Option<Told>> {
        loop {
            let event =
                self.events.message().await.map_err(|status| Error::msg(status.message().to_owned()))?;
            let Some(event) = event else { return Ok(None) };
            return Ok(Some(match event.event {
                Some(Event::Progress(Progress { files, bytes })) => Told::Measuring(files, bytes),
                Some(Event::Measured(Measured { json })) => Told::Measured(json.into()),
                Some(Event::Started(Started { pid, task, .. })) => Told::Started(pid, task),
                Some(Event::Ended(Ended { how })) => match how {
                    Some(How::Code(code)) => Told::Ended(code),
                    Some(How::Signal(signal)) => Told::Ended(128 + signal),
                    None => Told::Ended(1),
                },
                None => continue, // of a newer kind
            }));
        }
    }
}
