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
    executions_lost: Count,
    /// How often it was therefore unclear what a process had executed.
    executions_unclear: Count,
}

/// Asked anew each time.
#[derive(Clone, Debug)]
struct Count(Weak<Executions>, fn(&Executions) -> u64);

impl Watching {
    /// As the kernel tells.
    pub(crate) fn of(silence: &Silence, executions: &Result<Arc<Executions>, String>) -> Self {
        let count = |of| Count(executions.as_ref().map_or_else(|_| Weak::new(), Arc::downgrade), of);
        Self {
            exit: EVENT,
            exec_and_ids: way(silence.exec_and_ids.as_deref()),
            cgroup_moves: way(silence.moves.as_deref()),
            executables: match executions {
                Ok(_) => RECORDS.to_owned(),
                Err(why) => format!("the link in /proc alone, which makes path and hash weak: {why}"),
            },
            executions_lost: count(Executions::lost),
            executions_unclear: count(Executions::unclear),
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.upgrade().map(|executions| (self.1)(&executions)).serialize(serializer)
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
