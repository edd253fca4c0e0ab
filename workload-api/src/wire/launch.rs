//! Messages of `writ.launch.v1`.

use bytes::Bytes;
use prost::Message as _;
use proto::writ::launch::v1::{
    Ended, Measured, Progress, RunEvent, RunRequest, Started, ended::How, run_event::Event,
};

use crate::{LaunchEvent, launch::Command};

/// What is to be launched; `None` if it is not said.
pub(crate) fn launch_request(message: &[u8]) -> Option<Command> {
    let request = RunRequest::decode(message).ok()?;
    let terminal = match request.terminal {
        0 => None,
        n @ 1..=3 => Some(usize::try_from(n).ok()? - 1),
        _ => return None,
    };
    Some(Command {
        words: request.command,
        measure_only: request.measure_only,
        descriptors: [request.stdin, request.stdout, request.stderr],
        terminal,
    })
}

/// What happened, framed.
pub(crate) fn launch_event(event: LaunchEvent) -> Bytes {
    let event = match event {
        LaunchEvent::Measuring(files, bytes) => Event::Progress(Progress { files, bytes }),
        LaunchEvent::Measured(json) => Event::Measured(Measured { json: json.into() }),
        LaunchEvent::Started(pid, cgroup) => Event::Started(Started {
            pid: i32::try_from(pid).unwrap_or_default(),
            cgroup,
            ..Started::default()
        }),
        LaunchEvent::Exited(code) => Event::Ended(Ended { how: Some(How::Code(code)) }),
        LaunchEvent::Killed(signal) => Event::Ended(Ended { how: Some(How::Signal(signal)) }),
    };
    super::framed(&RunEvent { event: Some(event) })
}
