//! A Unix socket that many strangers share: accepts, takes turns, and closes what only costs.
//!
//! Everything runs on the thread that awaits [`serve`], since a hop between threads costs more than
//! most answers; whoever starts a socket gives it a thread and a runtime of its own.

mod authority;
mod cap;
mod connection;
mod sips;
mod turns;

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use peer::{Listener, Peer, Watch};
use tokio::sync::{Notify, mpsc, watch};
use tonic::body::Body;

pub(crate) use self::cap::{Cap, Place};
use self::turns::{Owner, Turns};

/// Connections accepted before those that are open get a turn.
const ACCEPTED_AT_ONCE: usize = 4;

/// What is served on a socket.
pub trait Service: Send + Sync + 'static {
    /// What the service keeps for each connection.
    type Session: Send + Sync + 'static;
    /// One open request; dropped when its answer has ended.
    type Place: Send + Unpin + 'static;

    /// A new connection; `None` closes it.
    fn open(&self, line: Arc<Line>) -> Option<Self::Session>;

    /// Gives one more request its place, or the answer that refuses it.
    fn admit(&self, session: &Self::Session) -> Result<Self::Place, Box<Response<Body>>>;

    /// Answers one request.
    fn answer(
        self: Arc<Self>,
        session: Arc<Self::Session>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// A connection, for those who answer on it: who is at the other end, and the way to end it.
pub struct Line {
    peer: Arc<Peer>,
    closing: Notify,
    /// Told when somebody is served something that lasts.
    lasting: Notify,
}

impl Line {
    /// The process at the other end.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Closes the connection with everything that is open on it.
    pub fn close(&self) {
        self.closing.notify_one();
    }

    /// Something is open on it that lasts until the process ends.
    pub(crate) fn lasts(&self) {
        self.lasting.notify_one();
    }

    /// Whether the process is still the one that connected. If not, the connection is closed.
    pub fn check(&self) -> Result<(), peer::Changed> {
        self.peer.check().inspect_err(|changed| {
            tracing::info!(pid = self.peer.pid(), %changed, "closed a connection");
            self.close();
        })
    }
}

/// Serves until `stop` says true, then closes every connection. `watch`, which somebody runs, says when a
/// process is no longer the one that connected.
pub async fn serve<S: Service>(
    listener: Listener,
    service: Arc<S>,
    connections_per_uid: usize,
    watch: Arc<Watch>,
    mut stop: watch::Receiver<bool>,
) {
    let (turns, driver) = Turns::new();
    // Turns are the budget here; the runtime's own would make sockets look empty in the middle of one.
    let mut driver = std::pin::pin!(tokio::task::unconstrained(driver));
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let accepting =
        accept(listener, service, Cap::new(connections_per_uid), watch, turns, stop.clone(), open);
    tokio::select! {
        never = accepting => match never {},
        never = &mut driver => match never {},
        // Its sender is gone: nobody is there any more who could ask for an end.
        _ = stop.wait_for(|stop| *stop) => {}
    }
    // Connections have seen the same and end as soon as they get their turn.
    tokio::select! {
        never = &mut driver => match never {},
        _ = tokio::time::timeout(CLOSED_WITHIN, all_closed.recv()) => {}
    }
}

async fn accept<S: Service>(
    listener: Listener,
    service: Arc<S>,
    cap: Arc<Cap<u32>>,
    watch: Arc<Watch>,
    turns: Turns,
    stop: watch::Receiver<bool>,
    open: mpsc::Sender<Infallible>,
) -> Infallible {
    loop {
        for _ in 0..ACCEPTED_AT_ONCE {
            let (stream, peer) = listener.accept().await;
            let owner = Owner { uid: peer.credentials().uid.effective, pid: peer.pid() };
            let Some(place) = cap.take(owner.uid) else {
                tracing::debug!(uid = owner.uid, "closed a connection: its user has too many");
                continue;
            };
            let watched = watch.watch(&peer);
            let line = Arc::new(Line { peer, closing: Notify::new(), lasting: Notify::new() });
            let (service, turns_too, stop, open) =
                (service.clone(), turns.clone(), stop.clone(), open.clone());
            turns.start(owner, async move {
                connection::serve(stream, line, watched, service, turns_too, owner, stop).await;
                drop((place, open));
            });
        }
        tokio::task::yield_now().await;
    }
}

/// How long connections have for ending when the socket closes.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
