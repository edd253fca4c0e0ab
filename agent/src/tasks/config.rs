//! What an operator says about tasks: the table `[tasks]`.

use serde::{Deserialize, Serialize};

/// Tasks of this node.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// When a task ends that a launched cgroup holds, its processes are killed; otherwise only the connections that they
    /// have open are cut.
    pub kill_domain: bool,
}
