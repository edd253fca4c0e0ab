//! `writ.launch.v1.Launch`: a process asks for a command to be measured and started in a cgroup of its own.

use bytes::Bytes;
use futures::Stream;
use tonic::Status;

use registry::objects::TaskId;

use crate::{Source, Wish, WorkloadApi, refusal::Refusal, session::Session, wire};

/// What is to be launched.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The program and its arguments, as for execvp.
    pub words: Vec<Bytes>,
    /// Start nothing.
    pub measure_only: bool,
    /// Which of the asker's descriptors are its standard input, output and error.
    pub descriptors: [u32; 3],
    /// Which of these three is to be its controlling terminal.
    pub terminal: Option<usize>,
    /// The task that it is, where it is one.
    pub task: Option<Wish>,
}

/// What happens meanwhile.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LaunchEvent {
    /// So many files and bytes have been measured.
    Measuring(u64, u64),
    /// What was measured, as JSON.
    Measured(Vec<u8>),
    /// The command runs as this process, in this cgroup, as this task.
    Started(u32, String, Option<TaskId>),
    /// It has ended with this code.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
}

/// Why nothing is launched, or no longer: a sentence for the asker about its own command.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct NoLaunch(pub String);

/// Launches, and tells what happens until the command has ended.
pub(crate) fn launch<S: Source>(
    api: &WorkloadApi<S>,
    session: &Session<S>,
    message: &[u8],
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + 'static, Status> {
    let command = wire::launch_request(message)?;
    session.line.check().map_err(|_| Refusal::Changed)?;
    let events = api.source.launch(session.line.peer(), command);
    Ok(futures::stream::unfold(events, |mut events| async move {
        let answer = match events.recv().await? {
            Ok(event) => Ok(wire::launch_event(event)),
            Err(refusal) => Err(Status::failed_precondition(refusal.to_string())),
        };
        Some((answer, events))
    }))
}
