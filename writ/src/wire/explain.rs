//! `writ.explain.v1`: what an agent sees of a process.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use proto::writ::explain::v1::{ExplainRequest, explain_client::ExplainClient};
use tonic::Code;

/// The agent's answer as JSON: about `pid`, or about this process itself.
pub(crate) async fn explain(socket: &Path, pid: Option<i32>) -> Result<Vec<u8>> {
    let mut agent = ExplainClient::new(super::connect(socket).await?);
    match agent.explain(ExplainRequest { pid: pid.unwrap_or(0) }).await {
        Ok(answer) => Ok(answer.into_inner().json.into()),
        Err(status) if status.code() == Code::PermissionDenied => {
            bail!("{}; ask as an administrator, over the agent's private socket", status.message())
        }
        Err(status) if status.code() == Code::NotFound => {
            bail!("{}; name a process that is alive", status.message())
        }
        Err(status) => {
            Err(anyhow::Error::msg(status.message().to_owned())).context("the agent did not explain")
        }
    }
}
