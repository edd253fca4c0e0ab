//! An MCP server behind the gate: the gate is its only client, in its own name.

mod definitions;
mod http;
mod link;
mod stdio;

use std::{sync::Arc, time::Duration};

use registry::scope::ResourceName;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

pub(crate) use self::definitions::Definitions;
use self::{http::Http, link::Link, stdio::Stdio};
use crate::config::{self, BadConfig, Limits};

/// One server and what it shows.
pub(crate) struct Upstream {
    name: ResourceName,
    link: Link,
    within: Duration,
    definitions_for: Duration,
    known: Mutex<Option<Known>>,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// The `result` of its answer.
    Result(Value),
    /// The `error` of its answer.
    Error(Value),
}

/// Why there is no answer, for the operator.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Failure {
    /// The request did not reach the server.
    #[error("{0}")]
    NotSent(String),
    /// It may have done what was asked for.
    #[error("{0}")]
    Lost(String),
}

struct Known {
    at: Instant,
    /// How often the server had said by then that its tools changed.
    changes: u64,
    definitions: Arc<Definitions>,
}

impl Upstream {
    /// The server that a configuration names; nothing is started or connected to yet.
    pub(crate) fn open(
        name: &ResourceName,
        config: &config::Upstream,
        limits: &Limits,
    ) -> Result<Self, BadConfig> {
        let link = match &config.url {
            Some(url) => Link::Http(Http::open(name, url, config, limits)?),
            None => Link::Stdio(Stdio::open(config, limits)?),
        };
        Ok(Self {
            name: name.clone(),
            link,
            within: limits.answer_within,
            definitions_for: limits.definitions_for,
            known: Mutex::default(),
        })
    }

    /// Its resource.
    pub(crate) fn name(&self) -> &ResourceName {
        &self.name
    }

    /// The tools as it shows them now; as it showed them a moment ago, where `anew` does not say otherwise and it
    /// has not said since that they changed.
    pub(crate) async fn definitions(&self, anew: bool) -> Result<Arc<Definitions>, Failure> {
        let mut known = self.known.lock().await;
        let changes = self.link.changes();
        let still = known
            .as_ref()
            .filter(|known| !anew && known.changes == changes && known.at.elapsed() < self.definitions_for);
        if let Some(still) = still {
            return Ok(still.definitions.clone());
        }
        *known = None;
        let definitions = Arc::new(self.ask_for_definitions().await?);
        *known = Some(Known { at: Instant::now(), changes, definitions: definitions.clone() });
        Ok(definitions)
    }

    /// Calls a tool with exactly these arguments: canonical JSON. If this future is dropped, the server is told
    /// that nobody waits any more.
    pub(crate) async fn call(&self, tool: &str, arguments: &[u8]) -> Result<Reply, Failure> {
        let mut params = br#"{"name":"#.to_vec();
        params.extend_from_slice(Value::from(tool).to_string().as_bytes());
        params.extend_from_slice(br#","arguments":"#);
        params.extend_from_slice(arguments);
        params.push(b'}');
        self.request("tools/call", params).await
    }

    async fn ask_for_definitions(&self) -> Result<Definitions, Failure> {
        let mut definitions = Definitions::default();
        let mut cursor: Option<Value> = None;
        for _ in 0..PAGES {
            let params = cursor.map_or_else(|| json!({}), |cursor| json!({ "cursor": cursor }));
            let page = match self.request("tools/list", params.to_string().into_bytes()).await? {
                Reply::Result(page) => page,
                Reply::Error(error) => {
                    let why = format!("the upstream {} does not list its tools: {error}", self.name);
                    return Err(Failure::NotSent(why));
                }
            };
            cursor = definitions.take(&self.name, page).map_err(Failure::NotSent)?;
            if cursor.is_none() {
                return Ok(definitions);
            }
        }
        Err(Failure::NotSent(format!(
            "the upstream {} lists its tools on more than {PAGES} pages",
            self.name
        )))
    }

    async fn request(&self, method: &str, params: Vec<u8>) -> Result<Reply, Failure> {
        tokio::time::timeout(self.within, self.link.request(method, params)).await.unwrap_or_else(|_| {
            let seconds = self.within.as_secs();
            Err(Failure::Lost(format!("the upstream {} did not answer within {seconds} s", self.name)))
        })
    }
}

const PAGES: usize = 100;
