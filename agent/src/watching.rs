//! How changes of processes are noticed here, for whoever asks for the agent's status.

use peer::Silence;
use serde::Serialize;

/// Each kind of change, with the way in which it is noticed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Watching {
    exit: &'static str,
    exec_and_ids: String,
    cgroup_moves: String,
}

impl Watching {
    /// As the kernel tells.
    pub(crate) fn of(silence: &Silence) -> Self {
        Self {
            exit: EVENT,
            exec_and_ids: way(silence.exec_and_ids.as_deref()),
            cgroup_moves: way(silence.moves.as_deref()),
        }
    }
}

fn way(silence: Option<&str>) -> String {
    match silence {
        None => EVENT.to_owned(),
        Some(why) => format!("a look at every open connection once a second: {why}"),
    }
}

const EVENT: &str = "kernel event";
