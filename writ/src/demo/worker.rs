//! What a program of the demo does as a software agent: it begins a task, calls tools through the gate, and ends it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mcp_gateway::Bridge;
use registry::scope::ResourceName;
use serde_json::{Value, json};

use super::actor::Event;
use crate::{
    cli::own_task::params,
    wire::task::{Tasks, Wish},
};

/// Its hold on its agent.
pub(super) struct Worker {
    workload_api: PathBuf,
    asked: u64,
}

impl Worker {
    pub(super) fn new(workload_api: &Path) -> Self {
        Self { workload_api: workload_api.to_owned(), asked: 0 }
    }

    pub(super) async fn begin(&mut self, mandate: String, given: &[String]) -> Result<Event> {
        let wish = Wish { mandate, params: params(given)?, ..Wish::default() };
        let own = self.tasks().await?.begin(wish).await?;
        Ok(Event::Began {
            task: own.task.id.to_string(),
            spiffe_id: own.spiffe_id.parse()?,
            expires_at: own.task.expires_at,
        })
    }

    /// As any client of MCP would, through the gate's socket. Whose call it is, the gate asks the kernel.
    pub(super) async fn call(
        &mut self,
        gate: PathBuf,
        resource: ResourceName,
        tool: &str,
        arguments: &Value,
    ) -> Result<Event> {
        self.asked += 1;
        let params = json!({ "name": tool, "arguments": arguments });
        let message = json!({ "jsonrpc": "2.0", "id": self.asked, "method": "tools/call", "params": params });
        let gate = Bridge { gate, resource: Some(resource), task: None };
        let answer = gate.carry(message.to_string()).await.context("a request has an answer")?;
        let answer: Value = serde_json::from_slice(&answer).context("the gate's answer is no JSON")?;
        Ok(match answer["result"]["content"][0]["text"].as_str() {
            Some(text) => Event::Called { said: text.to_owned() },
            None => Event::Denied {
                reason: answer["error"]["data"]["reason"]
                    .as_str()
                    .map_or_else(|| answer.to_string(), str::to_owned),
            },
        })
    }

    pub(super) async fn end(&mut self) -> Result<Event> {
        Ok(Event::Ended { task: self.tasks().await?.end(None).await? })
    }

    async fn tasks(&self) -> Result<Tasks> {
        Tasks::connect(&self.workload_api).await
    }
}
