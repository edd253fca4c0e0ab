//! `writ.explain.v1.AgentStatus`: the agent's own state, on its private socket.

use std::path::Path;

use anyhow::{Context as _, Result};
use proto::writ::explain::v1::{StatusRequest, agent_status_client::AgentStatusClient};

/// The agent's state as JSON.
pub(crate) async fn status(socket: &Path) -> Result<serde_json::Value> {
    let mut agent = AgentStatusClient::new(super::connect(socket).await?);
    let answer = agent.status(StatusRequest {}).await;
    let answer = answer
        .map_err(|status| anyhow::Error::msg(status.message().to_owned()))
        .context("the agent did not say how it is")?;
    serde_json::from_slice(&answer.into_inner().json).context("the agent's state is not JSON")
}
