//! What a gate and a software agent say to the node's agent.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use proto::writ::{
    authz::v1::{self as pb, gate_client::GateClient, to_agent::Message as Say, to_gate::Message as Hear},
    task::v1::{BeginRequest, EndRequest, tasks_client::TasksClient},
};
use registry::objects::Sha256;
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use crate::Failure;

/// This process as a software agent.
pub(crate) struct Tasks(TasksClient<Channel>);

impl Tasks {
    pub(crate) async fn connect(workload: &Path) -> Result<Self, Failure> {
        Ok(Self(TasksClient::new(connect(workload).await?)))
    }

    /// Begins a task, and gives its id.
    pub(crate) async fn begin(&mut self) -> Result<String, Failure> {
        let wish = BeginRequest { mandate: "bench".to_owned(), ..BeginRequest::default() };
        Ok(self.0.begin(wish).await?.into_inner().task.ok_or("no task")?.id)
    }

    /// Ends its only one.
    pub(crate) async fn end(&mut self) -> Result<(), Failure> {
        self.0.end(EndRequest::default()).await?;
        Ok(())
    }
}

/// A gate's session, for calls of this very process.
pub(crate) struct Gate {
    say: mpsc::UnboundedSender<pb::ToAgent>,
    hear: Streaming<pb::ToGate>,
    /// Whose calls it asks about.
    of: pb::Client,
    last: u64,
}

impl Gate {
    pub(crate) async fn open(authz: &Path) -> Result<Self, Failure> {
        let (say, said) = mpsc::unbounded_channel();
        say.send(message(Say::Hello(pb::Hello { resources: vec!["files".to_owned()] })))?;
        let mut gate = GateClient::new(connect(authz).await?);
        let hear = gate.session(UnboundedReceiverStream::new(said)).await?.into_inner();
        let mut gate = Self { say, hear, of: client(std::process::id())?, last: 0 };
        match gate.next().await? {
            Hear::Welcome(welcome) if welcome.refused.is_empty() => Ok(gate),
            other => Err(format!("no welcome: {other:?}").into()),
        }
    }

    /// The same for calls of another process.
    pub(crate) fn of(self, pid: u32) -> Result<Self, Failure> {
        Ok(Self { of: client(pid)?, ..self })
    }

    /// One call: its place in the audit trail where it is permitted, else the reason. What was permitted was done, and
    /// that is told as well.
    pub(crate) async fn ask(&mut self, tool: &str) -> Result<Result<u64, String>, Failure> {
        self.last += 1;
        let id = self.last;
        self.say.send(message(Say::Ask(pb::Ask {
            id,
            client: Some(self.of.clone()),
            tool: format!("files/{tool}"),
            arguments: Bytes::from_static(br#"{"path":"/srv/notes/today.md"}"#),
            definition_sha256: Bytes::copy_from_slice(&Sha256::of(b"{}").0),
        })))?;
        loop {
            match self.next().await? {
                Hear::Verdict(verdict) if verdict.id == id && verdict.permitted => {
                    let how = pb::outcome::How::Executed.into();
                    self.say.send(message(Say::Outcome(pb::Outcome { id, how, label: Bytes::new() })))?;
                    return Ok(Ok(verdict.seq));
                }
                Hear::Verdict(verdict) if verdict.id == id => return Ok(Err(verdict.reason)),
                Hear::Void(pb::Void { number, ids }) => {
                    self.say.send(message(Say::Voided(pb::Voided { number, dispatched: ids })))?;
                }
                _ => {}
            }
        }
    }

    /// Waits until the outcome of the last call is durable: then its answer may be released, and there is a next call.
    pub(crate) async fn released(&mut self) -> Result<(), Failure> {
        loop {
            match self.next().await? {
                Hear::Released(released) if released.id != self.last => {}
                Hear::Released(released) if released.reason.is_empty() => return Ok(()),
                Hear::Released(released) => return Err(released.reason.into()),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> Result<Hear, Failure> {
        let said = tokio::time::timeout(Duration::from_secs(10), self.hear.message()).await??;
        Ok(said.and_then(|said| said.message).ok_or("the session ended")?)
    }
}

fn client(pid: u32) -> Result<pb::Client, Failure> {
    let process = peer::Peer::open(pid)?.process();
    Ok(pb::Client { pid: process.pid(), serial: process.serial(), task: String::new() })
}

fn message(say: Say) -> pb::ToAgent {
    pb::ToAgent { message: Some(say) }
}

async fn connect(socket: &Path) -> Result<Channel, Failure> {
    let socket: Arc<Path> = socket.into();
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(&*socket).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://writ-agent").connect_with_connector(connector).await?)
}
