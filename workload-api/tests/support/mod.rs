//! A workload socket with a source that the test commands, and clients to speak to it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this"
)]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use peer::{Listener, Peer, Pinning, Watch};
use proto::workload::{
    X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use registry::objects::{Entry, TaskId};
use spiffe::{Audiences, Bundle, Bundles, PrivateKey, Timestamp};
use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
};
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};
use workload_api::{
    CannotIdentify, Command, Entitled, Identity, LaunchEvent, Limits, NoExplanation, NoLaunch, NoTask,
    NoToken, Source, Standing, Svids, TaskShown, TaskToken, Wish, WorkloadApi, X509Svid, socket,
};

/// Nothing in a test takes longer.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Everybody stands where the test says.
pub struct Commanded {
    pub standing: watch::Sender<Standing<Svids>>,
    pub entitled: watch::Sender<Standing<Entitled>>,
    /// Whether tokens are at hand, or take the server, or cannot be had.
    pub tokens: Mutex<TokensAre>,
    pub own: Arc<Bundles>,
    pub identified: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokensAre {
    AtHand,
    AtTheServer,
    Nowhere,
    /// The server never answers.
    Awaited,
}

impl Commanded {
    fn new(standing: Standing<Svids>) -> Self {
        Self {
            entitled: watch::Sender::new(entitled_like(&standing)),
            standing: watch::Sender::new(standing),
            tokens: Mutex::new(TokensAre::AtHand),
            own: Arc::new(Bundles::from_iter([Bundle::empty("acme.example".parse().unwrap())])),
            identified: AtomicUsize::new(0),
        }
    }
}

impl Source for Commanded {
    type Caller = ();

    async fn identify(&self, peer: &Arc<Peer>) -> Result<(), CannotIdentify> {
        self.identified.fetch_add(1, Ordering::Relaxed);
        Ok(peer.check()?)
    }

    fn is_lasting(&self, (): &()) -> bool {
        true
    }

    fn follow(&self, (): &()) -> watch::Receiver<Standing<Svids>> {
        self.standing.subscribe()
    }

    fn follow_entitled(&self, (): &()) -> watch::Receiver<Standing<Entitled>> {
        self.entitled.subscribe()
    }

    fn jwt_svid(&self, entry: &Arc<Entry>, audiences: &Audiences) -> Option<Arc<str>> {
        (*self.tokens.lock() == TokensAre::AtHand).then(|| token(entry, audiences))
    }

    async fn new_jwt_svid(&self, entry: &Arc<Entry>, audiences: &Audiences) -> Result<Arc<str>, NoToken> {
        let tokens = *self.tokens.lock();
        match tokens {
            TokensAre::AtHand | TokensAre::AtTheServer => Ok(token(entry, audiences)),
            TokensAre::Nowhere => Err(NoToken),
            TokensAre::Awaited => std::future::pending().await,
        }
    }

    fn own_bundles(&self) -> Arc<Bundles> {
        self.own.clone()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_000_000)
    }

    async fn explain(&self, asker: &Arc<Peer>, pid: Option<u32>) -> Result<Vec<u8>, NoExplanation> {
        match pid {
            Some(1) => Err(NoExplanation::NotYours(1)),
            pid => Ok(format!("{{\"pid\":{}}}", pid.unwrap_or(asker.pid())).into_bytes()),
        }
    }

    fn is_outdated(&self, (): &()) -> bool {
        false
    }

    async fn begin_task(&self, _: &Arc<Peer>, (): &(), wish: Wish) -> Result<TaskShown, NoTask> {
        Err(NoTask::Denied(format!("no task can begin under {} here", wish.mandate)))
    }

    fn follow_tasks(&self, _: &Arc<Peer>) -> mpsc::Receiver<Vec<TaskShown>> {
        let (told, tasks) = mpsc::channel(1);
        told.try_send(Vec::new()).expect("there is room");
        tasks
    }

    async fn end_task(&self, _: &Arc<Peer>, _: Option<&TaskId>) -> Result<TaskId, NoTask> {
        Err(NoTask::NotFound("no task of yours is live here".to_owned()))
    }

    async fn task_token(&self, _: &Arc<Peer>, (): &(), _: Option<&TaskId>) -> Result<TaskToken, NoTask> {
        Err(NoTask::NotFound("no task of yours is live here".to_owned()))
    }

    fn launch(&self, _: &Arc<Peer>, _: Command) -> mpsc::Receiver<Result<LaunchEvent, NoLaunch>> {
        let (answers, receiver) = mpsc::channel(1);
        answers.try_send(Err(NoLaunch("nothing is launched here".to_owned()))).expect("there is room");
        receiver
    }
}

/// A socket that is served until this is dropped.
pub struct Api {
    pub source: Arc<Commanded>,
    pub path: PathBuf,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Api {
    pub fn start(standing: Standing<Svids>) -> Self {
        Self::start_with(standing, Limits::default())
    }

    pub fn start_with(standing: Standing<Svids>, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workload.sock");
        let source = Arc::new(Commanded::new(standing));
        let api = Arc::new(WorkloadApi::new(source.clone(), limits));
        let (stop, stopped) = watch::channel(false);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let at = path.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build().unwrap();
            runtime.block_on(async {
                let listener = Listener::bind(&at, 0o777, Pinning::ByPidfd).unwrap();
                ready.send(()).unwrap();
                let watch = Arc::new(Watch::deaf());
                socket::serve(listener, api, limits.connections_per_uid, watch, stopped).await;
            });
        });
        is_ready.recv_timeout(DEADLINE).unwrap();
        Self { source, path, stop, thread: Some(thread), _dir: dir }
    }

    /// From now on everybody stands there.
    pub fn now(&self, standing: Standing<Svids>) {
        self.source.entitled.send_replace(entitled_like(&standing));
        self.source.standing.send_replace(standing);
    }

    pub async fn client(&self) -> Client {
        client_at(&self.path).await
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

pub type Client = SpiffeWorkloadApiClient<Channel>;

pub async fn channel_at(path: &Path) -> Channel {
    let path = path.to_owned();
    channel_over(move || {
        let path = path.clone();
        async move { UnixStream::connect(path).await }
    })
    .await
}

pub async fn channel_over<F>(connect: impl Fn() -> F + Send + 'static) -> Channel
where
    F: Future<Output = std::io::Result<UnixStream>> + Send + 'static,
{
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let connected = connect();
            async move { connected.await.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}

pub async fn client_at(path: &Path) -> Client {
    SpiffeWorkloadApiClient::new(channel_at(path).await)
}

/// A request with the security header.
pub fn secure<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

pub async fn fetch(client: &mut Client) -> Result<Streaming<X509svidResponse>, Status> {
    Ok(client.fetch_x509svid(secure(X509svidRequest {})).await?.into_inner())
}

/// Sends one request as it is and gives its gRPC status.
pub async fn raw_status(path: &Path, headers: &[(&str, &str)], body: Vec<u8>) -> Option<i32> {
    let stream = tokio::net::UnixStream::connect(path).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::post("http://localhost/SpiffeWorkloadAPI/FetchX509SVID")
        .header("content-type", "application/grpc")
        .header("workload.spiffe.io", "true");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.ok()?;
    let status = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    let found = match status(response.headers()) {
        Some(found) => Some(found),
        None => response.into_body().collect().await.ok()?.trailers().and_then(status),
    };
    connection.abort();
    found
}

/// The next answer of a stream, or the status that ends it.
pub async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let next = tokio::time::timeout(DEADLINE, stream.message()).await.expect("an answer in time");
    next.map(|message| message.expect("a stream of this API never ends with OK"))
}

/// The SPIFFE IDs in an answer.
pub fn ids(response: &X509svidResponse) -> Vec<&str> {
    response.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

/// Somebody who holds these identities of `acme.example`, given as paths.
pub fn holding(paths: &[&str]) -> Standing<Svids> {
    holding_hinted(&paths.iter().map(|path| (*path, "")).collect::<Vec<_>>())
}

pub fn holding_hinted(paths: &[(&str, &str)]) -> Standing<Svids> {
    let own: spiffe::TrustDomain = "acme.example".parse().unwrap();
    let identities = paths
        .iter()
        .map(|(path, hint)| Identity {
            svid: Arc::new(X509Svid {
                id: own.join(path).unwrap(),
                chain: vec![b"chain of ".to_vec().into(), path.as_bytes().to_vec().into()],
                key: PrivateKey::generate().unwrap(),
            }),
            hint: (*hint).to_owned(),
        })
        .collect();
    let bundles = [(own, "roots"), ("partner.example".parse().unwrap(), "theirs")];
    let bundles = bundles.into_iter().map(|(td, roots)| (td, roots.as_bytes().into())).collect();
    Standing::Holds(Arc::new(Svids::new(identities, bundles)))
}

/// Somebody with an entry for each of these identities.
fn entitled_like(standing: &Standing<Svids>) -> Standing<Entitled> {
    match standing {
        Standing::Holds(svids) => entitled(&svids.ids().map(|id| (id.path(), "")).collect::<Vec<_>>()),
        Standing::Preparing => Standing::Preparing,
        Standing::Nothing => Standing::Nothing,
        Standing::Outdated => Standing::Outdated,
    }
}

/// Somebody with an entry for each of these paths and hints, whose trust domain has no keys for tokens.
pub fn entitled(paths: &[(&str, &str)]) -> Standing<Entitled> {
    let own = Bundles::from_iter([Bundle::empty("acme.example".parse().unwrap())]);
    entitled_with(paths, own)
}

pub fn entitled_with(paths: &[(&str, &str)], bundles: Bundles) -> Standing<Entitled> {
    let entry = |(path, hint): &(&str, &str)| {
        let body = serde_json::json!({
            "id": format!("e{}", path.replace('/', "-")),
            "spiffe_id": format!("spiffe://acme.example{path}"),
            "parent_id": "spiffe://acme.example/spire/agent/join_token/web-1",
            "selectors": ["unix:uid:1"],
            "hint": hint,
            "created_at": "2026-11-22T00:00:00Z",
        });
        Arc::new(serde_json::from_value(body).unwrap())
    };
    Standing::Holds(Arc::new(Entitled::new(paths.iter().map(entry).collect(), bundles)))
}

/// What stands for a token where nobody looks into it.
fn token(entry: &Entry, audiences: &Audiences) -> Arc<str> {
    let audiences: Vec<_> = audiences.iter().collect();
    format!("{} for {}", entry.spiffe_id.path(), audiences.join(" and ")).into()
}

/// Runs the test `name` of this very file again in a process of its own, which sees `value` in the
/// environment variable `CHILD`; without it such a test does nothing.
pub fn child(name: &str, value: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env("CHILD", value);
    command
}

/// What `child` was started with.
pub fn child_value() -> Option<PathBuf> {
    std::env::var_os("CHILD").map(PathBuf::from)
}
