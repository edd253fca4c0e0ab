//! The agent as a whole: opens what it needs, then turns what happens into inputs of the spine and
//! carries out what the spine says.

use std::{
    collections::HashMap, convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};

use attestors::{BadConfig, WorkloadAttestors};
use daemon::{Counter, DiskError, Health, Layout, Metrics, Ready, Shutdown, health, private_dir, public_dir};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use peer::{Executions, ListenError, Listener, Pinning, Watch};
use spiffe::SpiffeId;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use workload_api::{WorkloadApi, socket};

use crate::{
    Config,
    authorize::Authorizer,
    callers::Callers,
    clock,
    config::Contradiction,
    doors::{
        authz::{self, AuthzDoor},
        private::{self, PrivateDoor},
        public::{self, DoorError, PublicDoor},
    },
    identities::Identities,
    jitter::Seed,
    keys::Keys,
    launch::Launcher,
    report::{Fixed, Report},
    shell::Shell,
    spine::Kept,
    spine::Spine,
    spool::{self, Spool, SpoolError},
    state::{State, StateError},
    tasks::Home,
    tokens::Tokens,
    upstream::{Anchor, Terms, TokenSource, Upstream},
    view_file::ViewFile,
    watching::Watching,
};

/// An agent that serves, for those who started it.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Which node this is.
    pub spiffe_id: SpiffeId,
    /// The socket for every process.
    pub workload_socket: PathBuf,
    /// The socket for gates.
    pub authz_socket: PathBuf,
    /// The administrator's socket.
    pub agent_socket: PathBuf,
    /// Where `/ready` is, if anywhere.
    pub health: Option<SocketAddr>,
}

/// Why an agent cannot run, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] Contradiction),
    /// A directory or file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The agent's own state.
    #[error(transparent)]
    State(#[from] StateError),
    /// `[attestors]` in the configuration.
    #[error(transparent)]
    Attestors(#[from] BadConfig),
    /// A socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The workload socket.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The address of `/ready`.
    #[error("cannot listen on {address} for health and metrics: {source}; choose another health_listen")]
    Health {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The audit records.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The server turned a new agent away, or it lacks what it needs to join.
    #[error("{0}")]
    CannotJoin(String),
    /// A part of the agent ended by itself.
    #[error("the workload socket is no longer served: {0}")]
    Broken(&'static str),
}

/// Runs an agent until its end is requested.
pub async fn run(config: Config, shutdown: Shutdown, ready: Ready<Serving>) -> Result<(), Error> {
    config.check()?;
    let connections_per_uid = config.limits.connections_per_uid.min(descriptors() / SHARE_OF_ONE_USER);
    let pinning = if config.insecure_peer_by_pid { Pinning::InsecureByPid } else { Pinning::ByPidfd };
    private_dir(&config.private_dir)?;
    public_dir(&config.public_dir)?;
    let layout = Layout {
        state: config.state_dir.clone(),
        private: config.private_dir.clone(),
        public: config.public_dir.clone(),
    };
    let (workload_socket, agent_socket) = (layout.workload_socket()?, layout.agent_socket()?);
    let authz_socket = layout.authz_socket()?;
    let state = Arc::new(State::open(&config.state_dir)?);
    let keys = Keys::under(&config.private_dir)?;
    let upstream = Arc::new(Upstream::open(terms(&config)?, state.clone())?);
    let view = ViewFile::under(&config.state_dir);
    let kept = kept(&view, &keys, &upstream)?;
    let spool = open_spool(&config, &upstream)?;

    let (identities, asked) = Identities::new();
    let identities = Arc::new(identities);
    let tokens = Arc::new(Tokens::new(upstream.clone()));
    let watch = Arc::new(Watch::open());
    let executions = Executions::open();
    let fixed = Fixed {
        version: env!("CARGO_PKG_VERSION"),
        server: config.server.to_string(),
        workload_socket: workload_socket.display().to_string(),
        key_storage: keys.storage(),
        insecure: insecure(&config),
        watching: Watching::of(&watch.silence(), &executions),
    };
    let (stop, stopped) = watch::channel(false);

    let health = Health::new();
    let attestors = Arc::new(attestors(&config, executions.ok(), health.metrics())?);
    let report = Arc::new(Report::new(fixed, identities.clone(), attestors.clone()));
    let health_address = serve_health(&config, &health, &shutdown).await?;
    let home = Arc::new(Home::open(
        &config.state_dir,
        config.tasks.clone(),
        attestors.launches().clone(),
        upstream.clone(),
        watch.clone(),
    )?);
    let launcher =
        Launcher::open(&config, &workload_socket, attestors.clone(), identities.clone(), home.clone())?;
    let callers = Arc::new(Callers::new(
        identities.clone(),
        tokens.clone(),
        attestors.clone(),
        Arc::new(launcher),
        home.clone(),
    ));
    let api = Arc::new(WorkloadApi::new(callers, config.limits.into()));
    let public = public::open(
        workload_socket.clone(),
        pinning,
        api,
        connections_per_uid,
        watch.clone(),
        stopped.clone(),
    )
    .await?;
    let listener = Listener::bind(&agent_socket, private::MODE, pinning)?;
    let doubting = doubt(attestors.news().listen(), identities.clone());
    home.record_to(spool.clone());
    let authorizer = Authorizer::open(&config.state_dir, home.clone(), spool.clone())?;
    let gates =
        Arc::new(AuthzDoor::new(identities.clone(), attestors.clone(), home.clone(), authorizer.clone()));
    let gates_listener = Listener::bind(&authz_socket, authz::MODE, pinning)?;
    let gates: JoinHandle<()> = tokio::spawn(socket::serve(
        gates_listener,
        gates,
        authz::CONNECTIONS_PER_UID,
        watch.clone(),
        stopped.clone(),
    ));
    let door = Arc::new(PrivateDoor::new(identities.clone(), attestors, report.clone(), authorizer.clone()));
    let private: JoinHandle<()> =
        tokio::spawn(socket::serve(listener, door, private::CONNECTIONS_PER_UID, watch.clone(), stopped));

    let (news, newsfeed) = mpsc::channel(NEWS_WAITING);
    let records = spool.clone();
    let ready = Box::new(move |spiffe_id: SpiffeId| {
        records.know(&spiffe_id.to_string());
        let health = health_address;
        ready.announce(Serving { spiffe_id, workload_socket, authz_socket, agent_socket, health });
    });
    let spine = Spine::new(Seed(rand::random()), config.svid_prefetch);
    let shell = Shell::new(
        spine,
        upstream.clone(),
        identities,
        tokens.clone(),
        home.clone(),
        keys,
        view,
        report,
        health,
        news,
        ready,
    );
    let PublicDoor { mut closed } = public;
    tokio::spawn(home.clone().take_up());
    let ended = tokio::select! {
        never = shell.run(kept, newsfeed, asked) => match never {
            Err(error) => Err(error),
            Ok(never) => match never {},
        },
        never = tokens.work() => match never {},
        never = authorizer.work() => match never {},
        never = spool::work(&spool, &upstream) => match never {},
        never = home.clone().hear() => match never {},
        never = home.clone().tell_server() => match never {},
        never = watch.run() => match never {},
        never = doubting => match never {},
        _ = &mut closed => Err(Error::Broken("its thread has ended")),
        () = shutdown.requested() => Ok(()),
    };
    stop.send_replace(true);
    let doors = async {
        // Either may be over already.
        let _ = tokio::join!(private, gates, closed);
    };
    // A door that does not close in time ends with the process.
    let _ = tokio::time::timeout(CLOSED_WITHIN, doors).await;
    ended
}

/// Has callers attested anew when somebody, such as a kubelet, says something else of them than before.
async fn doubt(mut news: watch::Receiver<u64>, identities: Arc<Identities>) -> Infallible {
    while news.changed().await.is_ok() {
        identities.doubt();
    }
    std::future::pending().await
}

/// The attestors, each with a figure of how often it failed.
fn attestors(
    config: &Config,
    executions: Option<Arc<Executions>>,
    metrics: &Metrics,
) -> Result<WorkloadAttestors, Error> {
    let all = WorkloadAttestors::with_executions(&config.attestors, executions)?;
    let help = "Times that an attestor could not say anything because what it depends on failed it.";
    let of = |name: &'static str| {
        // Labels last as long as the program; this is made once.
        let labels = Box::leak(Box::new([("attestor", name)]));
        (name, metrics.counter("writ_agent_attestor_failures_total", help, labels))
    };
    let failures: HashMap<&str, Counter> = all.iter().map(|attestor| of(attestor.name())).collect();
    Ok(all.on_failure(move |name| {
        failures.get(name).inspect(|counter| counter.increment());
    }))
}

/// What this node records. Under which name, it knows once it has joined.
fn open_spool(config: &Config, upstream: &Upstream) -> Result<Spool, SpoolError> {
    let node = upstream.certificate().map(|certificate| certificate.id.to_string());
    Spool::open(spool::Terms::new(config.state_dir.join("spool")), node.as_deref(), &upstream.key())
}

fn terms(config: &Config) -> Result<Terms, Error> {
    let token = TokenSource::of(config);
    token.read()?; // a file that cannot be used stops the start, not a later try
    Ok(Terms {
        server: config.server.clone(),
        trust_domain: config.trust_domain.clone(),
        pin: config.pin,
        insecure_bootstrap: config.insecure_bootstrap,
        anchor: Anchor::of(config),
        token,
        attestor: config.node_attestor.clone(),
        spire: config.spire.clone(),
    })
}

/// What a former process left: believed only as far as the bundle that is trusted vouches for it.
fn kept(view: &ViewFile, keys: &Keys, upstream: &Upstream) -> Result<Kept, DiskError> {
    let bundles = upstream.bundles();
    let is_trusting = bundles.iter().next().is_some();
    Ok(Kept {
        view: view.load()?,
        svids: keys.load(&bundles, clock::now()),
        certificate: upstream.certificate().map(|certificate| certificate.certified()),
        bundles: is_trusting.then_some(bundles),
    })
}

fn insecure(config: &Config) -> Vec<&'static str> {
    let bootstrap = "insecure_bootstrap: the first server that answered was believed without a pin";
    let by_pid = "insecure_peer_by_pid: callers are found by process ids, which later processes can inherit";
    let mut insecure = Vec::new();
    insecure.extend((config.insecure_bootstrap && config.pin.is_none()).then_some(bootstrap));
    insecure.extend(config.insecure_peer_by_pid.then_some(by_pid));
    let executables = config.attestors.executables;
    insecure.extend((executables.insecure_after_loss && !executables.refuse_weak).then_some(AFTER_LOSS));
    insecure
}

async fn serve_health(
    config: &Config,
    health: &Health,
    shutdown: &Shutdown,
) -> Result<Option<SocketAddr>, Error> {
    let Some(address) = config.health_listen else { return Ok(None) };
    let failed = |source| Error::Health { address, source };
    let listener = health::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tokio::spawn(health::serve(listener, health.clone(), shutdown.clone()));
    Ok(Some(bound))
}

/// How many descriptors this process may have, raised as far as it may raise that itself.
fn descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let wanted = hard.min(MOST_DESCRIPTORS);
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() {
        return usize::try_from(wanted).unwrap_or(usize::MAX);
    }
    usize::try_from(soft).unwrap_or(usize::MAX)
}

const AFTER_LOSS: &str = "attestors.executables.insecure_after_loss: whoever makes the kernel lose its records \
                          can pass for any program";
/// A connection takes three descriptors, and one user shall not have more than half of all.
const SHARE_OF_ONE_USER: usize = 6;
const MOST_DESCRIPTORS: u64 = 65_536;
const NEWS_WAITING: usize = 64;
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
