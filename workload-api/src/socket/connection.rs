//! One connection: HTTP/2 with its limits, and every reason for which it ends.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    rt::Executor,
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use peer::Watched;
use tokio::{net::UnixStream, sync::watch};

use super::{Line, Owner, Service, Turns, sips::Sips};
use crate::limits::{FIRST_REQUEST_WITHIN, IDLE, KEEP_ALIVE, METADATA_BYTES, PREFACE_WITHIN};

/// Serves one connection until its client leaves, its process ends or changes, it is silent for too
/// long, or the socket closes.
pub(super) async fn serve<S: Service>(
    stream: UnixStream,
    line: Arc<Line>,
    watched: Watched,
    service: Arc<S>,
    turns: Turns,
    owner: Owner,
    mut stop: watch::Receiver<bool>,
) {
    let Some(session) = service.open(line.clone()).map(Arc::new) else { return };
    let seen = Arc::new(Seen::default());
    let io = TokioIo::new(Sips::new(stream, seen.clone()));
    let answer = service_fn(|request: Request<Incoming>| {
        let open = OpenRequest::new(seen.clone());
        let (service, session) = (service.clone(), session.clone());
        async move {
            let (response, place) = match service.admit(&session) {
                Ok(place) => (service.answer(session, request).await, Some(place)),
                Err(refusal) => (*refusal, None),
            };
            Ok::<_, Infallible>(response.map(|body| Held { body, _held: (place, open) }))
        }
    });
    let connection = http2::Builder::new(JobsOf { turns, owner })
        .timer(TokioTimer::new())
        .max_header_list_size(METADATA_BYTES)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .serve_connection(io, answer);
    let mut connection = std::pin::pin!(connection);
    let left = tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(pid = owner.pid, %error, "a connection broke");
            }
            return;
        }
        () = line.closing.notified() => return,
        () = exited(&line) => return,
        changed = watched.changed() => {
            tracing::info!(pid = owner.pid, %changed, "closed a connection");
            return;
        }
        _ = stop.wait_for(|stop| *stop) => return,
        left = seen.silence() => left,
    };
    if left == Silence::AfterPreface {
        // The client learns that it is not to use this connection any more, and connects again when it
        // has something to ask.
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(PREFACE_WITHIN, connection).await;
    }
}

/// Most connections are over before it is worth watching for the end of their process, unless there is a
/// stream on it.
async fn exited(line: &Line) {
    let _ = tokio::time::timeout(WATCHED_AFTER, line.lasting.notified()).await;
    line.peer.exited().await;
}

/// What has been seen on a connection.
#[derive(Default)]
pub(super) struct Seen {
    bytes: AtomicU64,
    requests: AtomicU64,
    open: AtomicU64,
}

/// Whether a silent connection has said anything at all.
#[derive(Eq, PartialEq)]
enum Silence {
    BeforePreface,
    AfterPreface,
}

impl Seen {
    pub(super) fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Returns when nothing has been asked for so long that the connection only costs.
    async fn silence(&self) -> Silence {
        tokio::time::sleep(PREFACE_WITHIN).await;
        if self.bytes.load(Relaxed) < PREFACE_BYTES {
            return Silence::BeforePreface;
        }
        tokio::time::sleep(FIRST_REQUEST_WITHIN.saturating_sub(PREFACE_WITHIN)).await;
        let mut requests = 0;
        loop {
            let now = self.requests.load(Relaxed);
            if now == requests && self.open.load(Relaxed) == 0 {
                return Silence::AfterPreface;
            }
            requests = now;
            tokio::time::sleep(IDLE).await;
        }
    }
}

/// A request whose answer has not ended.
struct OpenRequest(Arc<Seen>);

impl OpenRequest {
    fn new(seen: Arc<Seen>) -> Self {
        seen.requests.fetch_add(1, Relaxed);
        seen.open.fetch_add(1, Relaxed);
        Self(seen)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// A body with what is held until it ends.
struct Held<H> {
    body: tonic::body::Body,
    _held: H,
}

impl<H: Unpin> Body for Held<H> {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Starts a connection's requests as jobs of its owner.
#[derive(Clone)]
struct JobsOf {
    turns: Turns,
    owner: Owner,
}

impl<F: Future + Send + 'static> Executor<F> for JobsOf {
    fn execute(&self, request: F) {
        self.turns.start(self.owner, async move {
            request.await;
        });
    }
}

/// `PRI * HTTP/2.0…SM`
const PREFACE_BYTES: u64 = 24;
const WATCHED_AFTER: Duration = Duration::from_secs(1);
/// Beyond this a client queues its requests itself.
const STREAMS: u32 = 1024;
/// Requests are small; what a client may send before we read it stays in memory.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
