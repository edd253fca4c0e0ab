//! The server: what is true. It decides commands into one log, keeps the certificate authority's keys,
//! lets nodes join, and tells each node's agent what the node may know.
//!
//! Start with [`run`]. A change goes from `glue` (the wire) through `api` to `ledger` and `writer`;
//! from there `push` takes it to the agents it concerns. `ca` signs; `callers` says who may call what.

mod admit;
mod api;
mod attest;
mod audit;
pub mod backup;
mod ca;
mod callers;
mod config;
mod door;
mod figures;
mod glue;
mod ledger;
mod local;
mod lost;
mod own;
mod push;
mod returning;
mod sign;
mod state;
mod tasks;
mod trust;
mod turns;
mod versions;
mod wakes;
mod writer;

pub use crate::audit::AuditError;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use attestors::node::server::{ConfigError, NodeAttestors};
pub use ca::{IssueError, KeyStoreError};
pub use callers::{CALLERS, May};
pub use config::{CaKeys, Config, ConfigProblem};
use daemon::{DiskError, Health, Ready, Shutdown, disk, health, now_unix_millis, private_dir};
pub use own::OwnError;
use spiffe::{
    Pin, Timestamp, TrustDomain,
    tls::{Expected, SvidVerifier, server_config},
};
pub use state::StateError;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
pub use turns::TurnError;
pub use writer::WriterEnd;

use crate::{
    admit::TurnedAway, audit::Audit, ca::Ca, figures::Figures, ledger::Ledger, lost::Lost, own::OwnSvid,
    state::State, tasks::Refusals, trust::Trust, turns::Turns, versions::Versions,
};

/// What everyone needs to reach a server that serves.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// Where agents connect, with the port that was taken.
    pub address: SocketAddr,
    /// The private socket.
    pub socket: PathBuf,
    /// What agents know it by.
    pub pin: Pin,
    /// Where health and metrics are, if anywhere.
    pub health: Option<SocketAddr>,
}

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigProblem),
    /// Nodes cannot attest as it says.
    #[error(transparent)]
    Attestors(#[from] ConfigError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file or directory cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The authorities' keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The audit log cannot be used.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The certificate authority cannot start.
    #[error("the certificate authority cannot start: {0}")]
    Turn(#[from] TurnError),
    /// An address is not free.
    #[error("cannot listen at {address}: {source}; choose another address, or stop what listens there")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The log can take nothing more.
    #[error("{0}")]
    Log(WriterEnd),
    /// A door closed by itself.
    #[error("the server cannot go on serving: {0}")]
    Serve(String),
}

/// What requests share.
struct Server {
    config: Config,
    ledger: Ledger,
    ca: Arc<Ca>,
    own: Arc<OwnSvid>,
    started: std::time::Instant,
    trust: Arc<Trust>,
    turns: Arc<Turns>,
    health: Health,
    shutdown: Shutdown,
    listening: SocketAddr,
    socket: PathBuf,
    /// As many signing batches at once as there are CPUs.
    signing: Semaphore,
    /// How nodes attest besides join tokens.
    attestors: NodeAttestors,
    turned_away: TurnedAway,
    /// So many nodes join at once; the others wait.
    joining: Semaphore,
    /// Which refusals of tasks are recorded.
    refusals: Refusals,
    lost: Lost,
    /// The log is copied for one backup at a time.
    backing_up: tokio::sync::Mutex<()>,
    figures: Figures,
    versions: Versions,
    audit: Audit,
}

const JOIN_AT_ONCE: usize = 32;
/// After the end is requested, calls that are under way have this long.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Then the log has this long to be closed; only a disk that hangs needs more.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);

/// Runs a server until the end is requested. `ready` is told once it serves.
pub async fn run(config: Config, shutdown: Shutdown, ready: Ready<Serving>) -> Result<(), Error> {
    for warning in config.check()? {
        tracing::warn!("{warning}");
    }
    let attestors = NodeAttestors::new(&config.node_attestors, &config.trust_domain)?;
    let opening = config.clone();
    let state = tokio::task::spawn_blocking(move || State::open(&opening)).await;
    let State { lock, log, registry, pin_key, keys } =
        state.map_err(|error| Error::Serve(error.to_string()))??;
    let health = Health::new();
    let (ledger, mut log_ended) =
        Ledger::start(registry, Box::new(log), health.clone()).map_err(Error::Thread)?;

    let audit =
        Audit::start(&config.state_dir, &config.trust_domain, ledger.current().log(), health.metrics())?;
    tokio::spawn(audit::follow::follow(audit.clone(), ledger.clone()));
    let ca = Arc::new(Ca::open(config.ca_keys, &keys)?);
    let own = Arc::new(OwnSvid::new(&config.trust_domain));
    let turns = Arc::new(Turns::new(ledger.clone(), ca.clone(), own.clone(), health.clone()));
    turns.turn().await?;
    let trust = Arc::new(Trust::new(ledger.clone(), pin_key));

    let listener = listen(config.listen).await?;
    let listening =
        listener.local_addr().map_err(|source| Error::Listen { address: config.listen, source })?;
    private_dir(&config.private_dir)?;
    let socket = disk::socket_path(config.private_dir.join("server.sock"))?;
    let private = local::bind(&socket)?;
    let tls = {
        let trust = trust.clone();
        let bundles = Arc::new(move || trust.bundles());
        let any = Expected::AnyIn(config.trust_domain.clone());
        let verifier = SvidVerifier::new(bundles, Arc::new(now), any).client_may_be_anonymous();
        Arc::new(server_config(Arc::new(verifier), own.clone())?)
    };
    let health_address = serve_health(&config, &health, &shutdown).await?;

    let closing = ledger.clone();
    let cpus = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let server = Arc::new(Server {
        config: config.clone(),
        ledger,
        ca,
        own: own.clone(),
        started: std::time::Instant::now(),
        trust: trust.clone(),
        turns: turns.clone(),
        health: health.clone(),
        shutdown: shutdown.clone(),
        listening,
        socket: socket.clone(),
        signing: Semaphore::new(cpus),
        attestors,
        turned_away: TurnedAway::default(),
        joining: Semaphore::new(JOIN_AT_ONCE),
        refusals: Refusals::default(),
        lost: Lost::new(health.metrics()),
        backing_up: tokio::sync::Mutex::default(),
        figures: Figures::new(health.metrics()),
        versions: Versions::default(),
        audit,
    });
    let turning = tokio::spawn(turns.run(shutdown.clone()));
    let mut doors = JoinSet::new();
    doors.spawn(glue::serve::network(server.clone(), listener, tls, shutdown.clone()));
    doors.spawn(glue::serve::private(server, private, shutdown.clone()));
    let trust_domain = config.trust_domain.clone();
    tracing::info!(%trust_domain, address = %listening, pin = %trust.pin(), "the server serves");
    ready.announce(Serving {
        trust_domain,
        address: listening,
        socket: socket.clone(),
        pin: trust.pin(),
        health: health_address,
    });

    let ended = tokio::select! {
        () = shutdown.requested() => Ok(()),
        why = &mut log_ended => Err(Error::Log(why.unwrap_or(WriterEnd::Stopped))),
        // The doors close by themselves when the end is requested, perhaps before it is noticed here.
        Some(door) = doors.join_next() => match shutdown.is_requested() {
            true => Ok(()),
            false => Err(Error::Serve(format!("a door closed: {door:?}"))),
        },
    };
    drop(trust);
    let drained = async {
        while doors.join_next().await.is_some() {}
        let _ = turning.await;
    };
    if ended.is_ok() && tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err() {
        tracing::warn!("some calls did not end in time and were cut");
    }
    if !matches!(ended, Err(Error::Log(_))) {
        let closed = async { tokio::join!(closing.close(), log_ended) };
        if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
            tracing::warn!("the log was not closed in time; the next start takes in what lies beside it");
        }
    }
    let _ = disk::remove(&socket);
    drop(lock);
    ended
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

async fn serve_health(
    config: &Config,
    health: &Health,
    shutdown: &Shutdown,
) -> Result<Option<SocketAddr>, Error> {
    let Some(address) = config.health_listen else { return Ok(None) };
    let failed = |source| Error::Listen { address, source };
    let listener = health::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tokio::spawn(health::serve(listener, health.clone(), shutdown.clone()));
    Ok(Some(bound))
}

/// The time, for whoever carries it into logic.
fn now() -> Timestamp {
    Timestamp::from_unix_millis(now_unix_millis())
}
