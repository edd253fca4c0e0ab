//! How changes of processes are noticed here, for whoever asks for the agent's status.

use std::sync::{Arc, Weak};

use peer::{Executions, Silence};
use serde::{Serialize, Serializer};

/// Each kind of change, with the way in which it is noticed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Watching {
    exit: &'static str,
    exec_and_ids: String,
    cgroup_moves: String,
    /// What tells which file a process really executed.
    executables: String,
    /// How often the kernel's records of that were lost.
    executions_lost: Lost,
}

/// Asked anew each time.
#[derive(Clone, Debug)]
struct Lost(Weak<Executions>);

impl Watching {
    /// As the kernel tells.
    pub(crate) fn of(silence: &Silence, executions: &Result<Arc<Executions>, String>) -> Self {
        Self {
            exit: EVENT,
            exec_and_ids: way(silence.exec_and_ids.as_deref()),
            cgroup_moves: way(silence.moves.as_deref()),
            executables: match executions {
                Ok(_) => RECORDS.to_owned(),
                Err(why) => format!("the link in /proc alone, which makes path and hash weak: {why}"),
            },
            executions_lost: Lost(executions.as_ref().map_or_else(|_| Weak::new(), Arc::downgrade)),
        }
    }
}

impl Serialize for Lost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.upgrade().map(|executions| executions.lost()).serialize(serializer)
    }
}

fn way(silence: Option<&str>) -> String {
    match silence {
        None => EVENT.to_owned(),
        Some(why) => format!("a look at every open connection once a second: {why}"),
    }
}

const EVENT: &str = "kernel event";
const RECORDS: &str = "the kernel's records of what was executed";
