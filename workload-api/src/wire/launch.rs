//! Messages of `writ.launch.v1`.

use bytes::Bytes;
use prost::Message as _;
use proto::writ::launch::v1::{
    Ended, Measured, Progress, RunEvent, RunRequest, Started, ended::How, run_event::Event,
};

use tonic::Status;

use super::tasks::wish;
use crate::{LaunchEvent, launch::Command, refusal::Refusal};

/// What is to be launched.
pub(crate) fn launch_request(message: &[u8]) -> Result<Command, Status> {
    let request = RunRequest::decode(message).map_err(|_| Refusal::Unreadable)?;
    let terminal = match request.terminal {
        0 => None,
        n @ 1..=3 => Some(usize::try_from(n).map_err(|_| Refusal::Unreadable)? - 1),
        _ => return Err(Refusal::Unreadable.into()),
    };
    let task = match request.mandate.is_empty() {
        true => None,
        false => Some(wish(&request.mandate, &request.params, &[], 0, request.note)?),
    };
    Ok(Command {
        words: request.command,
        measure_only: request.measure_only,
        descriptors: [request.stdin, request.stdout, request.stderr],
        terminal,
        task,
    })
}

/// What happened, framed.
pub(crate) fn launch_event(event: LaunchEvent) -> Bytes {
    let event = match event {
        LaunchEvent::Measuring(files, bytes) => Event::Progress(Progress { files, bytes }),
        LaunchEvent::Measured(json) => Event::Measured(Measured { json: json.into() }),
        LaunchEvent::Started(pid, cgroup, task) => Event::Started(Started {
            pid: i32::try_from(pid).unwrap_or_default(),
            cgroup,
            task: task.map(|task| task.to_string()).unwrap_or_default(),
        }),
        LaunchEvent::Exited(code) => Event::Ended(Ended { how: Some(How::Code(code)) }),
        LaunchEvent::Killed(signal) => Event::Ended(Ended { how: Some(How::Signal(signal)) }),
    };
    super::framed(&RunEvent { event: Some(event) })
}
