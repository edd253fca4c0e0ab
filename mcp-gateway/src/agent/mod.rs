//! The node agent, as the gate knows it: asked before each call, told after it, and obeyed in between.

mod permit;
mod session;
mod wire;

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use peer::Peer;
use registry::{
    objects::Sha256,
    scope::{ResourceName, ToolName},
};
use tokio::sync::watch;

pub(crate) use permit::{How, Permit, Running};
use session::Session;

/// The agent behind its socket. While it cannot be reached, every answer is a refusal.
pub(crate) struct Agent {
    session: watch::Receiver<Option<Arc<Session>>>,
}

/// For whom a call is.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The process, as the kernel named it.
    pub(crate) peer: Arc<Peer>,
    /// Which of its tasks, where it says so.
    pub(crate) task: String,
}

/// A tool as its upstream shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) tool: ToolName,
    pub(crate) definition: Sha256,
}

/// The answer is no.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refused {
    /// A stable code.
    pub(crate) reason: String,
    /// Whether somebody's approval could help.
    pub(crate) requestable: bool,
}

impl Agent {
    /// The agent behind `socket`, for a gate of these resources; and what keeps the session with it, to be run.
    pub(crate) fn open(
        socket: PathBuf,
        resources: Vec<ResourceName>,
    ) -> (Self, impl Future<Output = Infallible> + Send) {
        let (publish, session) = watch::channel(None);
        (Self { session }, keep(socket, resources, publish))
    }

    /// Ends when a session stands.
    pub(crate) fn reached(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut session = self.session.clone();
        async move {
            if session.wait_for(Option::is_some).await.is_err() {
                // Nobody keeps the session any more, so none will ever stand.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks whether a call may be made.
    pub(crate) async fn ask(
        &self,
        client: &Client,
        shown: &Shown,
        arguments: Bytes,
    ) -> Result<Permit, Refused> {
        self.session()?.ask(client, shown, arguments).await
    }

    /// Which of these tools the client's task can call at all.
    pub(crate) async fn visible(&self, client: &Client, shown: &[Shown]) -> Result<Vec<String>, Refused> {
        self.session()?.visible(client, shown).await
    }

    /// A client sent what is no call. Returns when that is on record, or nobody can put it there: whoever sends nonsense
    /// waits for it, like for any answer.
    pub(crate) async fn malformed(&self, client: &Client, resource: &ResourceName, why: &str) {
        if let Ok(session) = self.session() {
            session.malformed(client, resource, why.chars().take(MOST_WHY).collect()).await;
        }
    }

    fn session(&self) -> Result<Arc<Session>, Refused> {
        self.session.borrow().clone().ok_or_else(Refused::unreachable)
    }
}

impl Refused {
    /// Whoever decides cannot be reached.
    pub(crate) fn unreachable() -> Self {
        Self::because("unreachable")
    }

    pub(crate) fn because(reason: &str) -> Self {
        Self { reason: reason.to_owned(), requestable: false }
    }

    /// Whether nobody decided.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.reason == "unreachable"
    }
}

/// Keeps one session, and makes another when it ends; between two of them there is none.
async fn keep(
    socket: PathBuf,
    resources: Vec<ResourceName>,
    publish: watch::Sender<Option<Arc<Session>>>,
) -> Infallible {
    let mut pause = SHORTEST_PAUSE;
    loop {
        match wire::connect(&socket, &resources).await {
            Ok((line, welcome)) => {
                for (resource, why) in &welcome.refused {
                    tracing::error!(resource, why, "the agent lets this gate not guard a resource");
                }
                tracing::info!(gate = welcome.spiffe_id, "the agent is reached");
                pause = SHORTEST_PAUSE;
                let (session, reading) = Session::over(line);
                publish.send_replace(Some(session));
                let why = reading.await;
                publish.send_replace(None);
                tracing::warn!(why, "the agent is lost; nothing is forwarded until it is back");
            }
            Err(why) => {
                if pause == SHORTEST_PAUSE {
                    tracing::warn!(socket = %socket.display(), why, "the agent cannot be reached; nothing is forwarded");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// It may repeat what the client sent.
const MOST_WHY: usize = 256;
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
