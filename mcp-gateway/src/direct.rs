//! `writ mcp stdio -- CMD…`: the gate around one server that runs beside the agent which uses it, in the same domain.
//!
//! For honest use only: whoever can start this can also start the server without it.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use futures::StreamExt as _;
use peer::{Peer, PinError};
use registry::scope::ResourceName;
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, sync::mpsc, task::JoinSet};
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::{
    agent::{Agent, Client},
    config::{BadConfig, Config, Limits, Upstream},
    gate::Gate,
    message::{self, Fault, Message},
    methods,
};

/// One command behind a gate.
#[derive(Clone, Debug)]
pub struct Direct {
    /// Its resource.
    pub resource: ResourceName,
    /// The server.
    pub command: Vec<String>,
    /// All of its environment.
    pub env: BTreeMap<String, String>,
    /// The agent's socket for gates.
    pub authz: PathBuf,
    /// For which task of this domain; its only one where none is named.
    pub task: Option<String>,
}

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// This process itself.
    #[error("cannot take hold of this process: {0}")]
    Pin(#[from] PinError),
    /// Standard input or output.
    #[error("cannot speak with the client: {0}")]
    Io(#[from] io::Error),
}

/// Answers on standard input and output until the input ends.
pub async fn direct(direct: Direct) -> Result<(), Error> {
    let client =
        Client { peer: Arc::new(Peer::open(std::process::id())?), task: direct.task.unwrap_or_default() };
    let (agent, keeping) = Agent::open(direct.authz.clone(), vec![direct.resource.clone()]);
    let config = Config {
        socket: PathBuf::new(),
        authz: direct.authz,
        upstreams: BTreeMap::from([(
            direct.resource.clone(),
            Upstream::of_command(direct.command, direct.env),
        )]),
        patterns: Vec::new(),
        limits: Limits::default(),
    };
    let reached = agent.reached();
    let gate = Arc::new(Gate::open(&config, agent)?);
    let answering = async {
        // The first message is often there at once; it need not be refused for that.
        let _ = tokio::time::timeout(REACHED_WITHIN, reached).await;
        answer(gate, client).await
    };
    tokio::select! {
        never = keeping => match never {},
        ended = answering => Ok(ended?),
    }
}

async fn answer(gate: Arc<Gate>, client: Client) -> io::Result<()> {
    let most = gate.limits.request_bytes;
    let mut lines = FramedRead::new(tokio::io::stdin(), LinesCodec::new_with_max_length(most));
    let (say, mut said) = mpsc::channel::<Vec<u8>>(ANSWERS_WAITING);
    let writing = tokio::spawn(async move {
        let mut out = tokio::io::stdout();
        while let Some(mut answer) = said.recv().await {
            answer.push(b'\n');
            out.write_all(&answer).await?;
            out.flush().await?;
        }
        Ok::<_, io::Error>(())
    });
    let mut calls = JoinSet::new();
    while let Some(line) = lines.next().await {
        let line = line.map_err(io::Error::other)?;
        while calls.try_join_next().is_some() {}
        let (gate, client, say) = (gate.clone(), client.clone(), say.clone());
        calls.spawn(async move {
            if let Some(answer) = one(&gate, &client, line.as_bytes()).await {
                // If nobody reads any more, the next write says so.
                let _ = say.send(answer).await;
            }
        });
    }
    while calls.join_next().await.is_some() {}
    drop(say);
    writing.await.map_err(io::Error::other)?
}

/// The answer to one line; `None` where none is due.
async fn one(gate: &Arc<Gate>, client: &Client, line: &[u8]) -> Option<Vec<u8>> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    let upstream = gate.upstream(None)?.clone();
    let (id, method, params) = match Message::parse(line, gate.limits.request_bytes) {
        Ok(Message::Request { id, method, params }) => (id, method, params),
        Ok(Message::Notification { .. } | Message::Answer) => return None,
        Err(fault) => {
            gate.agent.malformed(client, upstream.name(), &fault.message).await;
            return Some(message::answer(&Value::Null, Err(fault)));
        }
    };
    let Some(_place) = gate.admit(client.peer.process()) else {
        let busy = Fault::new(Fault::INTERNAL, "too many calls are in flight");
        return Some(message::answer(&id, Err(busy)));
    };
    let answer = methods::answer(gate, &upstream, client, &method, params).await;
    Some(message::answer(&id, answer))
}

const REACHED_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);
const ANSWERS_WAITING: usize = 16;
