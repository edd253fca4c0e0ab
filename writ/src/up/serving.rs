//! What a person, a script and `writ up` itself learn of daemons that serve.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{agent::AgentServing, server::ServerServing};

/// The line of `writ up --output json`; scripts rely on these names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ready {
    /// The trust domain's name.
    pub(crate) trust_domain: String,
    /// Where workloads ask, as `SPIFFE_ENDPOINT_SOCKET` says it.
    pub(crate) workload_api: String,
    /// Where gates ask.
    pub(crate) authz: PathBuf,
    /// The server's private socket.
    pub(crate) server_admin: PathBuf,
    /// The agent's private socket.
    pub(crate) agent_admin: PathBuf,
    /// Where agents of other machines find the server.
    pub(crate) server_address: String,
    /// What they know it by.
    pub(crate) server_pin: String,
    /// The server's process; another one after it died and was started again.
    pub(crate) server_pid: u32,
    /// The agent's process; another one after it died and was started again.
    pub(crate) agent_pid: u32,
}

impl Ready {
    pub(super) fn of(server: &ServerServing, agent: &AgentServing) -> Self {
        Self {
            trust_domain: server.trust_domain.clone(),
            workload_api: agent.workload_api.clone(),
            authz: agent.authz.clone(),
            server_admin: server.server_admin.clone(),
            agent_admin: agent.agent_admin.clone(),
            server_address: server.server_address.clone(),
            server_pin: server.server_pin.clone(),
            server_pid: server.server_pid,
            agent_pid: agent.agent_pid,
        }
    }
}
