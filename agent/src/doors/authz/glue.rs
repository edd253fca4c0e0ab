//! Where generated code meets the door of gates.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use authz::{Limits, ToolCall};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{Request, Response};
use hyper::body::Incoming;
use proto::writ::authz::v1::{
    self as pb,
    gate_server::{Gate, GateServer},
    outcome,
    to_agent::Message as FromGate,
    to_gate::Message as ToGate,
};
use registry::{
    objects::Sha256,
    scope::{Label, ResourceName},
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming, body::Body, codegen::Service as _};
use workload_api::socket::Line;

use super::{
    AuthzDoor,
    session::{Client, Heard, Session},
};
use crate::authorize::{How, Said, Shown};

/// Answers one request of whoever connected.
pub(super) async fn answer(
    door: Arc<AuthzDoor>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Response<Body> {
    if !request.uri().path().starts_with("/writ.authz.v1.Gate/") {
        return Status::unimplemented("this method is not served here").into_http();
    }
    let mut service = GateServer::new(Asked { door, line }).max_decoding_message_size(MESSAGE_BYTES);
    match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

struct Asked {
    door: Arc<AuthzDoor>,
    line: Arc<Line>,
}

#[tonic::async_trait]
impl Gate for Asked {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::ToGate, Status>> + Send>>;

    async fn session(
        &self,
        request: tonic::Request<Streaming<pb::ToAgent>>,
    ) -> Result<tonic::Response<Self::SessionStream>, Status> {
        let mut from = request.into_inner();
        let resources = hello(&mut from).await?;
        let gate = self.door.attest(self.line.peer(), &resources).await.map_err(Status::permission_denied)?;
        let own = gate.guards.values().next().map(ToString::to_string).unwrap_or_default();
        let refused: BTreeMap<_, _> =
            gate.refused.iter().map(|(name, why)| (name.to_string(), why.clone())).collect();
        tracing::info!(pid = self.line.peer().pid(), gate = own, "a gate begins a session");
        let (carried, said) = self.door.authorizer.carried();
        let session = Session::new(gate, self.line.clone(), self.door.clone(), carried);
        tokio::spawn(read(session, from));
        let welcome = ToGate::Welcome(pb::Welcome { spiffe_id: own, refused });
        Ok(tonic::Response::new(messages(welcome, said).boxed()))
    }
}

/// The resources of the first message.
async fn hello(from: &mut Streaming<pb::ToAgent>) -> Result<Vec<ResourceName>, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, from.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("a gate begins with a hello"))??;
    let Some(FromGate::Hello(hello)) = first.and_then(|message| message.message) else {
        return Err(Status::invalid_argument("a gate begins with a hello"));
    };
    if hello.resources.len() > RESOURCES {
        return Err(Status::invalid_argument(format!("a gate guards at most {RESOURCES} resources")));
    }
    let parsed: Result<_, _> = hello.resources.iter().map(|name| name.parse()).collect();
    parsed.map_err(|error| Status::invalid_argument(format!("{error}")))
}

/// Reads until the gate leaves, says what no gate says, or is no longer what it was.
async fn read(session: Arc<Session>, mut from: Streaming<pb::ToAgent>) {
    let reading = async {
        while let Ok(Some(message)) = from.message().await {
            let Some(heard) = message.message.and_then(heard) else {
                tracing::warn!("a gate said something that is not understood; its session ends");
                return;
            };
            session.hear(heard).await;
        }
    };
    tokio::select! {
        () = reading => {}
        () = session.over() => {}
    }
    session.end().await;
}

/// `None` for what ends the session.
fn heard(message: FromGate) -> Option<Heard> {
    Some(match message {
        FromGate::Hello(_) => return None,
        FromGate::Ask(ask) => {
            let tool = ask.tool.parse().ok()?;
            let definition = digest(&ask.definition_sha256)?;
            // The arguments are parsed here and nowhere else: what is judged is what is given back.
            let call = authz::Json::parse(&ask.arguments, Limits::default())
                .ok()
                .and_then(|json| ToolCall::new(tool, Some(json.into_value())).ok())
                .map(|call| call.defined_as(definition));
            Heard::Ask { id: ask.id, client: client(ask.client?)?, call: call.map(Box::new) }
        }
        FromGate::Outcome(outcome) => {
            let how = match outcome.how() {
                outcome::How::Executed => How::Executed,
                outcome::How::Failed => How::Failed,
                outcome::How::NotSent => How::NotSent,
                outcome::How::Unknown => How::Unknown,
            };
            let found = match outcome.label.is_empty() {
                true => Label::default(),
                false => serde_json::from_slice(&outcome.label).ok()?,
            };
            Heard::Outcome { id: outcome.id, how, found }
        }
        FromGate::Malformed(malformed) => Heard::Malformed {
            id: malformed.id,
            client: client(malformed.client?)?,
            resource: malformed.resource.parse().ok()?,
            why: malformed.why,
        },
        FromGate::Voided(voided) => Heard::Voided { number: voided.number },
        FromGate::Visible(visible) => {
            if visible.tools.len() > TOOLS {
                return None;
            }
            let shown = |shown: &pb::ShownTool| {
                Some(Shown { tool: shown.tool.parse().ok()?, definition: digest(&shown.definition_sha256)? })
            };
            let shown = visible.tools.iter().map(shown).collect::<Option<_>>()?;
            Heard::Visible { id: visible.id, client: client(visible.client?)?, shown }
        }
    })
}

fn client(client: pb::Client) -> Option<Client> {
    let task = match client.task.is_empty() {
        true => None,
        false => Some(client.task.parse().ok()?),
    };
    Some(Client { pid: client.pid, serial: client.serial, task })
}

fn digest(bytes: &Bytes) -> Option<Sha256> {
    Some(Sha256(bytes.as_ref().try_into().ok()?))
}

/// What is said to the gate, in order; it ends with the session.
fn messages(
    welcome: ToGate,
    said: mpsc::UnboundedReceiver<Said>,
) -> impl Stream<Item = Result<pb::ToGate, Status>> + Send {
    let said = futures::stream::unfold(said, |mut said| async move {
        let next = said.recv().await?;
        Some((message(next), said))
    });
    futures::stream::iter([welcome]).chain(said).map(|message| Ok(pb::ToGate { message: Some(message) }))
}

fn message(said: Said) -> ToGate {
    let code = |refused: &authz::Refused| refused.code.as_str().to_owned();
    match said {
        Said::Permitted { id, arguments, seq, task } => ToGate::Verdict(pb::Verdict {
            id,
            permitted: true,
            arguments,
            seq,
            task,
            valid_ms: VALID_MS,
            ..pb::Verdict::default()
        }),
        Said::Refused { id, refused } => ToGate::Verdict(pb::Verdict {
            id,
            reason: code(&refused),
            requestable: refused.requestable,
            ..pb::Verdict::default()
        }),
        Said::Released { id, refused } => {
            ToGate::Released(pb::Released { id, reason: refused.as_ref().map(code).unwrap_or_default() })
        }
        Said::Void { number, ids } => ToGate::Void(pb::Void { number, ids }),
        Said::Shown { id, shown } => {
            let (tools, reason) = match shown {
                Ok(tools) => (tools.iter().map(ToString::to_string).collect(), String::new()),
                Err(refused) => (Vec::new(), code(&refused)),
            };
            ToGate::Shown(pb::Shown { id, tools, reason })
        }
    }
}

/// A permit lives that long at the gate.
const VALID_MS: u32 = 1000;
const HELLO_WITHIN: Duration = Duration::from_secs(5);
const MESSAGE_BYTES: usize = 512 * 1024;
const RESOURCES: usize = 256;
const TOOLS: usize = 2000;
