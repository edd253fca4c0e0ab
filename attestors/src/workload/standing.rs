//! [`Standing`]: how an attestor fares on this machine, for an administrator to read.

use std::time::Duration;

use serde::Serialize;

use crate::Evidence;

/// How an attestor fares.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Standing {
    /// Its name.
    pub name: &'static str,
    /// Whether it works.
    pub state: State,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether an attestor works.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is asked about each process.
    On,
    /// What it depends on is not on this machine, or was not configured.
    Absent,
    /// What it depends on failed it when it was last asked.
    Failing,
    /// The operator switched it off.
    Off,
}

/// What one attestor said of a process.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its name.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What it found.
    pub evidence: Evidence,
}

impl Standing {
    pub(super) fn new(name: &'static str, state: State, reason: Option<String>) -> Self {
        Self { name, state, reason }
    }
}
