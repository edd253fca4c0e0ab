//! What an operator says about tasks: the table `[tasks]`.

use std::time::Duration;

use authz::Freshness;
use serde::{Deserialize, Serialize};

/// Tasks of this node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// When a task ends that a launched cgroup holds, its processes are killed; otherwise only the connections that they
    /// have open are cut.
    pub kill_domain: bool,
    /// How long calls of tier 0 are permitted without the server's word; a minute at most. That of other tiers is fixed.
    #[serde(with = "daemon::config::duration")]
    pub stale_limit_tier_0: Duration,
}

impl Config {
    /// Whether it holds together; if not, a sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.stale_limit_tier_0 > Freshness::MOST_TIER_0 {
            true => {
                Err("tasks.stale_limit_tier_0 is longer than a minute; for so long an ended task could go on")
            }
            false => Ok(()),
        }
    }

    /// How old the server's word may be.
    pub(crate) fn freshness(&self) -> Freshness {
        Freshness { tier_0: self.stale_limit_tier_0, ..Freshness::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { kill_domain: false, stale_limit_tier_0: Freshness::default().tier_0 }
    }
}
