//! What an operator says about attestors, `[attestors]` in agent.toml: a table for each that has something
//! to be configured, defined beside it.

use serde::{Deserialize, Serialize};

use crate::{
    executables,
    workload::{docker, k8s, systemd},
};

/// The configuration of all workload attestors.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The names of those that are not asked.
    pub off: Vec<String>,
    /// How much must be known of executables.
    pub executables: executables::Config,
    /// Container engines.
    pub docker: docker::Config,
    /// Kubernetes; without it nobody is asked about pods.
    pub k8s: Option<k8s::Config>,
    /// The manager of the system's units.
    pub systemd: systemd::Config,
}

/// What cannot be done as it was configured, in one sentence.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(String);

impl BadConfig {
    /// Because of this.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}
