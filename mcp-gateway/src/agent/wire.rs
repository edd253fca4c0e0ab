//! `writ.authz.v1` from a gate's side.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use proto::writ::authz::v1::{
    self as pb, gate_client::GateClient, to_agent::Message as ToAgent, to_gate::Message as ToGate,
};
use registry::scope::{Label, ResourceName};
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Streaming,
    transport::{Endpoint, Uri},
};
use tower::service_fn;

use super::{Client, How, Shown};

/// What the gate says.
pub(super) enum Say {
    Ask { id: u64, client: Client, shown: Shown, arguments: Bytes },
    Outcome { id: u64, how: How, label: Option<Label> },
    Visible { id: u64, client: Client, shown: Vec<Shown> },
    Malformed { id: u64, client: Client, resource: ResourceName, why: String },
    Voided { number: u64, dispatched: Vec<u64> },
}

/// What the agent says.
pub(super) enum Hear {
    Permitted { id: u64, arguments: Bytes, valid: Duration },
    Refused { id: u64, reason: String, requestable: bool },
    Released { id: u64, reason: String },
    Shown { id: u64, tools: Vec<String>, reason: String },
    Void { number: u64, ids: Vec<u64> },
    Unknown,
}

/// As whom the agent knows this gate.
pub(super) struct Welcome {
    pub(super) spiffe_id: String,
    pub(super) refused: Vec<(String, String)>,
}

/// A session's two directions.
pub(super) struct Line {
    mouth: Mouth,
    ear: Ear,
}

pub(super) struct Mouth(mpsc::UnboundedSender<pb::ToAgent>);

pub(super) struct Ear(Streaming<pb::ToGate>);

/// Begins a session with the agent.
pub(super) async fn connect(socket: &Path, resources: &[ResourceName]) -> Result<(Line, Welcome), String> {
    tokio::time::timeout(WITHIN, begin(socket, resources))
        .await
        .map_err(|_| "the agent did not answer in time".to_owned())?
}

async fn begin(socket: &Path, resources: &[ResourceName]) -> Result<(Line, Welcome), String> {
    let path = socket.to_owned();
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://writ-agent")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| innermost(&error))?;
    let (say, said) = mpsc::unbounded_channel();
    let mouth = Mouth(say);
    mouth.put(ToAgent::Hello(pb::Hello { resources: resources.iter().map(ToString::to_string).collect() }));
    let answer = GateClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES)
        .session(UnboundedReceiverStream::new(said))
        .await;
    let mut ear = Ear(answer.map_err(|status| status.message().to_owned())?.into_inner());
    match ear.message().await? {
        Some(ToGate::Welcome(pb::Welcome { spiffe_id, refused })) => {
            Ok((Line { mouth, ear }, Welcome { spiffe_id, refused: refused.into_iter().collect() }))
        }
        _ => Err("the agent did not welcome the gate".to_owned()),
    }
}

impl Line {
    pub(super) fn split(self) -> (Mouth, Ear) {
        (self.mouth, self.ear)
    }
}

impl Mouth {
    /// Says it. On a session that has ended nobody hears it, and nothing in that session counts any more.
    pub(super) fn say(&self, what: Say) {
        self.put(match what {
            Say::Ask { id, client, shown, arguments } => ToAgent::Ask(pb::Ask {
                id,
                client: Some(named(&client)),
                tool: shown.tool.to_string(),
                arguments,
                definition_sha256: digest(&shown),
            }),
            Say::Outcome { id, how, label } => {
                let label = label.and_then(|label| serde_json::to_vec(&label).ok()).unwrap_or_default();
                ToAgent::Outcome(pb::Outcome { id, how: outcome(how).into(), label: label.into() })
            }
            Say::Visible { id, client, shown } => ToAgent::Visible(pb::Visible {
                id,
                client: Some(named(&client)),
                tools: shown
                    .iter()
                    .map(|shown| pb::ShownTool {
                        tool: shown.tool.to_string(),
                        definition_sha256: digest(shown),
                    })
                    .collect(),
            }),
            Say::Malformed { id, client, resource, why } => ToAgent::Malformed(pb::Malformed {
                id,
                client: Some(named(&client)),
                resource: resource.to_string(),
                why,
            }),
            Say::Voided { number, dispatched } => ToAgent::Voided(pb::Voided { number, dispatched }),
        });
    }

    fn put(&self, message: ToAgent) {
        let _ = self.0.send(pb::ToAgent { message: Some(message) });
    }
}

impl Ear {
    /// What comes next; `None` when the agent has ended the session.
    pub(super) async fn next(&mut self) -> Result<Option<Hear>, String> {
        Ok(self.message().await?.map(|message| match message {
            ToGate::Verdict(verdict) if verdict.permitted => Hear::Permitted {
                id: verdict.id,
                arguments: verdict.arguments,
                valid: Duration::from_millis(verdict.valid_ms.into()),
            },
            ToGate::Verdict(pb::Verdict { id, reason, requestable, .. }) => {
                Hear::Refused { id, reason, requestable }
            }
            ToGate::Released(pb::Released { id, reason }) => Hear::Released { id, reason },
            ToGate::Shown(pb::Shown { id, tools, reason }) => Hear::Shown { id, tools, reason },
            ToGate::Void(pb::Void { number, ids }) => Hear::Void { number, ids },
            ToGate::Welcome(_) => Hear::Unknown,
        }))
    }

    async fn message(&mut self) -> Result<Option<ToGate>, String> {
        let message = self.0.message().await.map_err(|status| status.message().to_owned())?;
        // One of a kind that is not known yet ends the session: it might have taken something away.
        message
            .map(|message| message.message.ok_or("the agent speaks a newer protocol".to_owned()))
            .transpose()
    }
}

fn named(client: &Client) -> pb::Client {
    let process = client.peer.process();
    pb::Client { pid: process.pid(), serial: process.serial(), task: client.task.clone() }
}

fn digest(shown: &Shown) -> Bytes {
    Bytes::copy_from_slice(&shown.definition.0)
}

fn outcome(how: How) -> pb::outcome::How {
    match how {
        How::Executed => pb::outcome::How::Executed,
        How::Failed => pb::outcome::How::Failed,
        How::NotSent => pb::outcome::How::NotSent,
        How::Unknown => pb::outcome::How::Unknown,
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

const WITHIN: Duration = Duration::from_secs(5);
/// An agent that does not answer a ping is lost, and with it every permit.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const MESSAGE_BYTES: usize = 1024 * 1024;
