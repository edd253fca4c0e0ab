//! A gate by hand: what `writ mcp` says on `authz.sock`, so that a story can ask as often as it likes, and wrongly.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub use proto::writ::authz::v1::Client;
use proto::writ::authz::v1::gate_client::GateClient;
use proto::writ::authz::v1::{
    Ask, Hello, Outcome, Released, ToAgent, ToGate, Verdict, Voided, Welcome, outcome, to_agent, to_gate,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};

use crate::admin::channel;

/// A session with an agent. What is void is acknowledged at once: this gate forwards nothing.
#[derive(Debug)]
pub struct Gate {
    say: mpsc::UnboundedSender<ToAgent>,
    waiting: Waiting,
    last: AtomicU64,
    hearing: JoinHandle<()>,
    /// How the agent answered the hello.
    pub welcome: Welcome,
}

/// Who waits for which answer; empty and closed once the session is over.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<to_gate::Message>>>>>;

impl Gate {
    /// Begins a session that guards these resources.
    pub async fn open(socket: &Path, resources: &[&str]) -> Result<Self, Status> {
        let (say, said) = mpsc::unbounded_channel();
        let resources = resources.iter().map(ToString::to_string).collect();
        let hello = ToAgent { message: Some(to_agent::Message::Hello(Hello { resources })) };
        say.send(hello).map_err(|_| Status::internal("nobody listens"))?;
        let words = tokio_stream::wrappers::UnboundedReceiverStream::new(said);
        let mut heard = GateClient::new(channel(socket)).session(words).await?.into_inner();
        let welcome = match heard.message().await?.and_then(|first| first.message) {
            Some(to_gate::Message::Welcome(welcome)) => welcome,
            other => return Err(Status::unknown(format!("a session begins with a welcome, not {other:?}"))),
        };
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let hearing = tokio::spawn(hear(heard, waiting.clone(), say.clone()));
        Ok(Self { say, waiting, last: AtomicU64::new(0), hearing, welcome })
    }

    /// Asks whether a process may make a call; an error is a session that is over.
    pub async fn ask(&self, client: &Client, tool: &str, arguments: &str) -> Result<Verdict, Status> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let ask = Ask {
            id,
            client: Some(client.clone()),
            tool: tool.to_owned(),
            arguments: arguments.as_bytes().to_vec().into(),
            definition_sha256: vec![0; 32].into(),
        };
        match self.answered(id, to_agent::Message::Ask(ask)).await? {
            to_gate::Message::Verdict(verdict) => Ok(verdict),
            other => Err(Status::unknown(format!("a question is answered by a verdict, not {other:?}"))),
        }
    }

    /// Says that a permitted call was executed, and hears whether its answer may be released.
    pub async fn executed(&self, id: u64) -> Result<Released, Status> {
        let outcome = Outcome { id, how: outcome::How::Executed.into(), label: Vec::new().into() };
        match self.answered(id, to_agent::Message::Outcome(outcome)).await? {
            to_gate::Message::Released(released) => Ok(released),
            other => Err(Status::unknown(format!("an outcome is answered by a release, not {other:?}"))),
        }
    }

    async fn answered(&self, id: u64, message: to_agent::Message) -> Result<to_gate::Message, Status> {
        let over = || Status::unavailable("the session is over");
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().expect("nobody panics with it").as_mut().ok_or_else(over)?.insert(id, answer);
        self.say.send(ToAgent { message: Some(message) }).map_err(|_| over())?;
        answered.await.map_err(|_| over())
    }
}

impl Drop for Gate {
    /// The session ends with the gate: nobody says any more what became of its permits.
    fn drop(&mut self) {
        self.hearing.abort();
    }
}

async fn hear(mut heard: Streaming<ToGate>, waiting: Waiting, say: mpsc::UnboundedSender<ToAgent>) {
    while let Ok(Some(message)) = heard.message().await {
        let Some(message) = message.message else { break };
        let id = match &message {
            to_gate::Message::Verdict(verdict) => verdict.id,
            to_gate::Message::Released(released) => released.id,
            to_gate::Message::Shown(shown) => shown.id,
            to_gate::Message::Void(void) => {
                let voided = Voided { number: void.number, dispatched: Vec::new() };
                if say.send(ToAgent { message: Some(to_agent::Message::Voided(voided)) }).is_err() {
                    break;
                }
                continue;
            }
            to_gate::Message::Welcome(_) => break,
        };
        let asker = waiting.lock().expect("nobody panics with it").as_mut().and_then(|open| open.remove(&id));
        if let Some(asker) = asker {
            // Whoever asked may have given up.
            let _ = asker.send(message);
        }
    }
    waiting.lock().expect("nobody panics with it").take();
}
