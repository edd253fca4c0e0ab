//! What an operator says about executables, `[attestors.executables]` in agent.toml.

use serde::{Deserialize, Serialize};

/// How much must be known of what a process executed before its path, hash and build id are told.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Only what the kernel recorded counts: nothing is told of processes that are older than the agent, of
    /// programs on file systems that name a file otherwise than the records do, and where the kernel gives no
    /// records.
    pub refuse_weak: bool,
    /// What may have been executed while records were lost is told, as weak. Whoever can make the kernel lose
    /// its records can then pass for any program.
    pub insecure_after_loss: bool,
}
