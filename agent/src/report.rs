//! The agent's own state, for its administrator: how it stands with its server, what it holds, and what
//! is insecure.

use std::sync::Arc;

use attestors::{Standing, WorkloadAttestors};
use parking_lot::Mutex;
use serde::Serialize;
use spiffe::{Pin, SpiffeId, Timestamp};
use sysinfo::System;

use crate::{identities::Identities, watching::Watching};

/// What the shells note and the private socket shows.
pub(crate) struct Report {
    fixed: Fixed,
    moving: Mutex<Moving>,
    identities: Arc<Identities>,
    attestors: Arc<WorkloadAttestors>,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fixed {
    /// This program's version.
    pub(crate) version: &'static str,
    /// Where the server is.
    pub(crate) server: String,
    /// The socket for every process.
    pub(crate) workload_socket: String,
    /// Where workload keys are.
    pub(crate) key_storage: &'static str,
    /// What the operator chose although it is insecure.
    pub(crate) insecure: Vec<&'static str>,
    /// How changes of processes are noticed.
    pub(crate) watching: Watching,
}

/// What changes.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Moving {
    /// Which node this is.
    pub(crate) spiffe_id: Option<SpiffeId>,
    /// Until when the agent's own certificate lasts.
    pub(crate) certificate_until: Option<Timestamp>,
    /// By what the server is known.
    pub(crate) pin: Option<Pin>,
    /// Whether the view is followed now.
    pub(crate) connected: bool,
    /// Why not.
    pub(crate) problem: Option<String>,
    /// When the server was last heard of.
    pub(crate) last_sync: Option<Timestamp>,
    /// The revision that has been followed to.
    pub(crate) revision: Option<u64>,
    /// The newest revision that the server has shown; what is not this node's business is not followed.
    pub(crate) head: Option<u64>,
    /// When the next SVID is due.
    pub(crate) next_rotation: Option<Timestamp>,
}

/// Everything, as JSON.
#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    moving: &'a Moving,
    #[serde(flatten)]
    fixed: &'a Fixed,
    entries: usize,
    svids: usize,
    attestors: Vec<Standing>,
    host: Host,
}

/// Figures of this machine, read when somebody asks.
#[derive(Serialize)]
struct Host {
    name: Option<String>,
    kernel: Option<String>,
    uptime_seconds: Option<u64>,
    load: Option<f64>,
}

impl Report {
    /// Nothing has happened yet.
    pub(crate) fn new(fixed: Fixed, identities: Arc<Identities>, attestors: Arc<WorkloadAttestors>) -> Self {
        Self { fixed, moving: Mutex::default(), identities, attestors }
    }

    /// Notes what changed.
    pub(crate) fn note<T>(&self, change: impl FnOnce(&mut Moving) -> T) -> T {
        change(&mut self.moving.lock())
    }

    /// The state now.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let moving = self.moving.lock().clone();
        let (entries, svids) = self.identities.count();
        let host = Host {
            name: System::host_name().ok(),
            kernel: System::kernel_version().ok(),
            uptime_seconds: System::uptime().ok(),
            load: System::load_average().ok().map(|load| load.one),
        };
        let attestors = self.attestors.standings();
        let page = Page { moving: &moving, fixed: &self.fixed, entries, svids, attestors, host };
        serde_json::to_vec(&page).expect("a page holds nothing that JSON cannot say")
    }
}

#[cfg(test)]
mod tests {
    use peer::Watch;

    use super::*;
    use crate::testing::at;

    #[test]
    fn a_page_says_how_things_stand_and_what_is_insecure() {
        let fixed = Fixed {
            version: "1",
            server: "10.0.0.7:8081".into(),
            workload_socket: "/p/workload.sock".into(),
            key_storage: "memory",
            insecure: vec!["insecure_bootstrap"],
            watching: Watching::of(&Watch::deaf().silence(), &Err("not asked for".into())),
        };
        let report =
            Report::new(fixed, Arc::new(Identities::new().0), Arc::new(WorkloadAttestors::builtin()));
        report.note(|moving| moving.last_sync = Some(at(0)));
        let page: serde_json::Value = serde_json::from_slice(&report.to_json()).unwrap();
        assert_eq!(page["attestors"][0], serde_json::json!({ "name": "unix", "state": "on" }));
        assert_eq!((&page["connected"], &page["svids"]), (&false.into(), &0.into()));
        assert_eq!(
            (&page["insecure"][0], &page["server"]),
            (&"insecure_bootstrap".into(), &"10.0.0.7:8081".into())
        );
        assert!(page["last_sync"].as_str().unwrap().ends_with('Z') && page["host"]["kernel"].is_string());
    }
}
