//! The row of each method. What has none is denied, and nobody is asked about it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    agent::{Client, Refused},
    gate::Gate,
    message::Fault,
    revision::{self, Revision},
    tools_call::tools_call,
    tools_list::tools_list,
    upstream::Upstream,
};

/// Answers a request of a client.
pub(crate) async fn answer(
    gate: &Arc<Gate>,
    upstream: &Arc<Upstream>,
    client: &Client,
    method: &str,
    params: Map<String, Value>,
) -> Result<Value, Fault> {
    let revision = Revision::of(&params)?;
    match (method, revision) {
        // Who speaks and how; nothing of a task is in it.
        ("initialize", Revision::Greeting) => Ok(revision::greeted(&params, upstream.name().as_str())),
        ("ping", Revision::Greeting) => Ok(json!({})),
        ("server/discover", Revision::Stateless) => Ok(revision::discovered(upstream.name().as_str())),
        // Each tool apart.
        ("tools/list", _) => tools_list(gate, upstream, client, revision, &params).await,
        ("tools/call", _) => tools_call(gate, upstream, client, revision, params).await,
        // Prompts, resources, completion, subscriptions, tasks of MCP, logging, and what is not known yet.
        _ => Err(Fault::denied("method_not_permitted", false)),
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        if refused.is_unreachable() {
            let message = "the agent of this node cannot be reached, so nothing is permitted";
            return Self {
                data: Some(json!({ "reason": "unreachable" })),
                ..Self::new(Self::INTERNAL, message)
            };
        }
        Self::denied(&refused.reason, refused.requestable)
    }
}
