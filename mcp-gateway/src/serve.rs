//! The daemon: a socket for any process of the node, and the agent that decides for each.

use std::{collections::HashMap, convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use daemon::{Ready, Shutdown};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use peer::{ListenError, Listener, Peer, Pinning};
use tokio::net::UnixStream;

use crate::{
    agent::Agent,
    config::{BadConfig, Config},
    gate::Gate,
    http::respond,
};

/// A gate that serves, for those who started it.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Where clients connect.
    pub socket: PathBuf,
    /// The resources behind it.
    pub resources: Vec<String>,
}

/// Why a gate cannot run, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Runs a gate until its end is requested.
pub async fn serve(config: Config, shutdown: Shutdown, ready: Ready<Serving>) -> Result<(), Error> {
    let resources: Vec<_> = config.upstreams.keys().cloned().collect();
    let (agent, keeping) = Agent::open(config.authz.clone(), resources.clone());
    let reached = agent.reached();
    let gate = Arc::new(Gate::open(&config, agent)?);
    let listener = Listener::bind(&config.socket, MODE, Pinning::ByPidfd)?;
    let serving = Serving {
        socket: config.socket.clone(),
        resources: resources.iter().map(ToString::to_string).collect(),
    };
    let announcing = async {
        // Without an agent it serves as well: every call is refused, with a reason.
        let _ = tokio::time::timeout(REACHED_WITHIN, reached).await;
        ready.announce(serving);
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        never = keeping => match never {},
        never = announcing => match never {},
        never = accept(listener, gate) => match never {},
        () = shutdown.requested() => Ok(()),
    }
}

async fn accept(listener: Listener, gate: Arc<Gate>) -> Infallible {
    let users = Arc::new(Mutex::new(HashMap::<u32, usize>::new()));
    loop {
        let (stream, peer) = listener.accept().await;
        let uid = peer.credentials().uid.effective;
        {
            let mut users = users.lock();
            let open = users.entry(uid).or_default();
            if *open >= gate.limits.connections_per_uid {
                tracing::debug!(uid, "closed a connection: its user has too many");
                continue;
            }
            *open += 1;
        }
        let (gate, users) = (gate.clone(), users.clone());
        tokio::spawn(async move {
            connection(stream, peer, gate).await;
            let mut users = users.lock();
            if let Some(open) = users.get_mut(&uid) {
                *open -= 1;
                if *open == 0 {
                    users.remove(&uid);
                }
            }
        });
    }
}

/// Serves one connection until its client leaves or ends.
async fn connection(stream: UnixStream, peer: Arc<Peer>, gate: Arc<Gate>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let (gate, peer) = (gate.clone(), peer.clone());
        async move { Ok::<_, Infallible>(respond(gate, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(pid = peer.pid(), %error, "a connection broke");
            }
        }
        () = peer.exited() => {}
    }
}

/// Whoever reaches the socket may ask; the agent decides.
const MODE: u32 = 0o777;
const REACHED_WITHIN: Duration = Duration::from_secs(5);
/// Also how long a connection may be idle.
const HEADERS_WITHIN: Duration = Duration::from_secs(60);
const BUFFER: usize = 64 * 1024;
