//! `writ.authz.v1.Decisions`: one decision as a query, on the agent's private socket.

use std::path::Path;

use anyhow::{Context as _, Result};
use proto::writ::authz::v1::{DecideRequest, decisions_client::DecisionsClient};

/// The agent's verdict as JSON.
pub(crate) async fn decide(socket: &Path, request: Vec<u8>) -> Result<serde_json::Value> {
    let mut agent = DecisionsClient::new(super::connect(socket).await?);
    let answer = agent.decide(DecideRequest { json: request.into() }).await;
    let answer = answer.map_err(|status| anyhow::Error::msg(status.message().to_owned()))?;
    serde_json::from_slice(&answer.into_inner().json).context("the agent's verdict is not JSON")
}
