//! A program of the demo: it asks its agent who it is, and speaks mutual TLS as whoever it is.
//!
//! It knows nothing but the agent's socket. Orders come as lines of JSON on standard input, what
//! happens goes out as lines of JSON; it ends with its standard input.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use registry::scope::ResourceName;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spiffe::{
    SpiffeId, Timestamp,
    tls::{self, Expected, SvidVerifier},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::worker::Worker;
use crate::{
    cli::output,
    identity::Identities,
    wire::workload::{self, Refused},
};

const SPEAKS_WITHIN: Duration = Duration::from_secs(10);
const ASKS_AGAIN_AFTER: Duration = Duration::from_millis(100);
const LONGEST_WORD: u64 = 1024;

/// The hidden verb that runs it.
#[derive(Debug, clap::Args)]
pub(crate) struct Actor {
    /// The agent's socket.
    workload_api: PathBuf,
}

/// What it is told to do.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub(super) enum Order {
    /// Answer whoever is `client`.
    Listen { client: SpiffeId },
    /// Greet whoever is `server` at `address`.
    Call { address: String, server: SpiffeId },
    /// Begin a task under a mandate.
    Begin { mandate: String, params: Vec<String> },
    /// Call a tool through a gate.
    Use { gate: PathBuf, resource: ResourceName, tool: String, arguments: Value },
    /// End the task.
    End,
}

/// What happens to it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub(super) enum Event {
    /// The agent said who it is.
    Identity { spiffe_id: SpiffeId, not_after: Timestamp },
    /// The agent said that it is nobody, or nobody any more.
    NoIdentity { reason: String },
    /// It listens.
    Listening { address: String },
    /// Somebody called and was answered.
    Served { peer: SpiffeId, said: String },
    /// Its call was answered.
    Answered { peer: SpiffeId, said: String },
    /// Its task began.
    Began { task: String, spiffe_id: SpiffeId, expires_at: Timestamp },
    /// A tool answered.
    Called { said: String },
    /// It may not call the tool.
    Denied { reason: String },
    /// Its task ended.
    Ended { task: String },
    /// It could not do as it was told.
    Failed { reason: String },
}

/// Who it is now, if anybody.
type Own = watch::Receiver<Option<Arc<Identities>>>;

pub(crate) async fn run(actor: Actor) -> Result<ExitCode> {
    let (sender, own) = watch::channel(None);
    let mut worker = Worker::new(&actor.workload_api);
    tokio::spawn(follow(actor.workload_api, sender));
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = orders.next_line().await? {
        match serde_json::from_str(&line).context("an order that makes no sense")? {
            Order::Listen { client } => listen(own.clone(), client).await?,
            Order::Call { address, server } => tell(&match call(&own, &address, server).await {
                Ok((peer, said)) => Event::Answered { peer, said },
                Err(error) => Event::Failed { reason: format!("{error:#}") },
            })?,
            Order::Begin { mandate, params } => tell_of(worker.begin(mandate, &params).await)?,
            Order::Use { gate, resource, tool, arguments } => {
                tell_of(worker.call(gate, resource, &tool, &arguments).await)?;
            }
            Order::End => tell_of(worker.end().await)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Keeps what the agent says, and nothing of it once the agent takes it back. Then, as any client
/// would, it asks again; only changes are told.
async fn follow(socket: PathBuf, own: watch::Sender<Option<Arc<Identities>>>) -> Result<()> {
    let mut refused_before = false;
    loop {
        match until_refused(&socket, &own).await? {
            Refused::Unavailable(error) => return tell(&Event::Failed { reason: format!("{error:#}") }),
            Refused::NoIdentity(reason) => {
                let was_somebody = own.send_replace(None).is_some();
                if was_somebody || !refused_before {
                    tell(&Event::NoIdentity { reason })?;
                }
                refused_before = true;
            }
        }
        tokio::time::sleep(ASKS_AGAIN_AFTER).await;
    }
}

async fn until_refused(socket: &Path, own: &watch::Sender<Option<Arc<Identities>>>) -> Result<Refused> {
    let mut updates = match workload::x509_svids(socket).await {
        Ok(updates) => updates,
        Err(refused) => return Ok(refused),
    };
    loop {
        let identities = match updates.next(now).await {
            Ok(identities) => identities,
            Err(refused) => return Ok(refused),
        };
        let Some(svid) = identities.default() else { continue };
        let event = Event::Identity { spiffe_id: svid.id.clone(), not_after: svid.not_after };
        if own.send_replace(Some(Arc::new(identities))).is_none() {
            tell(&event)?;
        }
    }
}

async fn listen(own: Own, client: SpiffeId) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tell(&Event::Listening { address: listener.local_addr()?.to_string() })?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let event = match timeout(SPEAKS_WITHIN, serve(&own, stream, client.clone())).await {
                Ok(Ok((peer, said))) => Event::Served { peer, said },
                Ok(Err(error)) => Event::Failed { reason: format!("{error:#}") },
                Err(_) => Event::Failed { reason: "a caller was silent".to_owned() },
            };
            if tell(&event).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Answers one connection with the SVID of this moment.
async fn serve(own: &Own, stream: TcpStream, client: SpiffeId) -> Result<(SpiffeId, String)> {
    let (verifier, identities) = present(own, client)?;
    let svid = identities.default().context("no identity")?;
    let mut config = tls::server_config(verifier, tls::fixed_identity(svid.chain.clone(), &svid.key)?)?;
    config.alpn_protocols.clear();
    stream.set_nodelay(true)?;
    let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
    let peer = tls::peer_svid(stream.get_ref().1.peer_certificates())?.context("an anonymous caller")?.id;
    let mut said = String::new();
    (&mut stream).take(LONGEST_WORD).read_to_string(&mut said).await?;
    stream.write_all(format!("welcome, {}", peer.path()).as_bytes()).await?;
    stream.shutdown().await?;
    Ok((peer, said))
}

/// Greets a server with the SVID of this moment.
async fn call(own: &Own, address: &str, server: SpiffeId) -> Result<(SpiffeId, String)> {
    let (verifier, identities) = present(own, server)?;
    let svid = identities.default().context("no identity")?;
    let identity = tls::fixed_identity(svid.chain.clone(), &svid.key)?;
    let mut config = tls::client_config(verifier, Some(identity))?;
    config.alpn_protocols.clear();
    let name = ServerName::try_from("not-checked.invalid")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let peer = tls::peer_svid(stream.get_ref().1.peer_certificates())?.context("an anonymous server")?.id;
    stream.write_all(format!("good day from {}", svid.id.path()).as_bytes()).await?;
    stream.shutdown().await?;
    let mut said = String::new();
    (&mut stream).take(LONGEST_WORD).read_to_string(&mut said).await?;
    Ok((peer, said))
}

/// Whom to be and whom to believe, as the agent says now.
fn present(own: &Own, peer: SpiffeId) -> Result<(Arc<SvidVerifier>, Arc<Identities>)> {
    let identities = own.borrow().clone().context("the agent says that this program is nobody (any more)")?;
    let bundles = Arc::clone(&identities.bundles);
    let verifier =
        SvidVerifier::new(Arc::new(move || Arc::clone(&bundles)), Arc::new(now), Expected::Exactly(peer));
    Ok((Arc::new(verifier), identities))
}

fn tell_of(happened: Result<Event>) -> Result<()> {
    tell(&happened.unwrap_or_else(|error| Event::Failed { reason: format!("{error:#}") }))
}

fn tell(event: &Event) -> Result<()> {
    Ok(output::line(&serde_json::to_string(event)?)?)
}

fn now() -> Timestamp {
    Timestamp::from_unix_millis(daemon::now_unix_millis())
}
