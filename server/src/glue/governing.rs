//! What `writ.admin.v1` says about what is governed: declarations, kill switches, tasks and policies.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proto::writ::admin::v1::{
    PushPoliciesRequest, PushPoliciesResponse, PushedPolicy, SwitchRequest, TurnTaskRequest,
    switch_request::What, turn_task_request::To,
};
use registry::{
    Author, Command, Refusal,
    decide::{
        actor::{DisableActor, EnableActor},
        policy::{PolicyText, ReplacePolicies},
        task::{EndTask, ResumeTask, SuspendTask},
        tenant::{DisableTenant, EnableTenant},
    },
    objects::{Layer, PolicyId},
};
use serde_json::Value;
use server_api::wire::status;
use spiffe::json;
use tonic::Status;

use super::{admin::read, unavailable};
use crate::{Server, api::policies};

/// Carries out a command that is done or refused.
pub(super) async fn done<T: Send + 'static>(
    server: &Server,
    command: impl Command<Answer = Result<T, Refusal>>,
    author: Author,
) -> Result<T, Status> {
    let done = server.ledger.submit(command, author).await.map_err(unavailable)?;
    done.map_err(|refusal| status::call(&refusal))
}

/// Each body with its kind: the request's, or the body's own.
pub(super) fn kinds(kind: String, bodies: Vec<Bytes>) -> Result<Vec<(String, Bytes)>, Status> {
    if !kind.is_empty() {
        return Ok(bodies.into_iter().map(|body| (kind.clone(), body)).collect());
    }
    let own = |body: Bytes| {
        let mut whole = json::parse(&body).ok()?;
        let (kind, body) = (whole.get("kind")?.as_str()?.to_owned(), whole.get_mut("body").map(Value::take)?);
        Some((kind, Bytes::from(body.to_string())))
    };
    let read = bodies.into_iter().map(own).collect::<Option<Vec<_>>>();
    read.ok_or_else(|| Status::invalid_argument("a body is {\"kind\": …, \"body\": …}"))
}

/// Turns the kill switch of an actor or a tenant.
pub(super) async fn switch(server: &Server, request: SwitchRequest, author: Author) -> Result<(), Status> {
    let what = request.what();
    let SwitchRequest { name, disable, why, .. } = request;
    match (what, disable) {
        (What::Actor, true) => done(server, DisableActor { id: read("name", &name)?, why }, author).await,
        (What::Actor, false) => done(server, EnableActor { id: read("name", &name)? }, author).await,
        (What::Tenant, true) => done(server, DisableTenant { name: read("name", &name)?, why }, author).await,
        (What::Tenant, false) => done(server, EnableTenant { name: read("name", &name)? }, author).await,
        (What::Unspecified, _) => Err(Status::invalid_argument("what: it is missing or unknown")),
    }
}

/// Ends, suspends or resumes a task.
pub(super) async fn turn(server: &Server, request: TurnTaskRequest, author: Author) -> Result<(), Status> {
    let to = request.to();
    let TurnTaskRequest { id, why, .. } = request;
    let id = read("id", &id)?;
    match to {
        To::Ended => done(server, EndTask { id, why }, author).await,
        To::Suspended => done(server, SuspendTask { id, why }, author).await,
        To::Resumed => done(server, ResumeTask { id, why }, author).await,
        To::Unspecified => Err(Status::invalid_argument("to: it is missing or unknown")),
    }
}

/// Replaces a layer of policies, if all of them are in order.
pub(super) async fn push(
    server: &Arc<Server>,
    request: PushPoliciesRequest,
    author: Author,
) -> Result<PushPoliciesResponse, Status> {
    let PushPoliciesRequest { layer, policies } = request;
    let layer: Layer = read("layer", &layer)?;
    let many = policies.len();
    let policies = policies.into_iter().map(policy).collect::<Result<BTreeMap<_, _>, _>>()?;
    if policies.len() != many {
        return Err(Status::invalid_argument("policies: a name is there twice"));
    }
    let registry = server.ledger.current();
    let checked =
        tokio::task::spawn_blocking(move || policies::check(&registry, &policies).map(|()| policies));
    let policies = checked.await.map_err(|_| Status::internal("the check failed"))?;
    let policies = policies.map_err(|fault| Status::invalid_argument(fault.to_string()))?;
    let replaced = done(server, ReplacePolicies { layer, policies }, author).await?;
    let names = |ids: Vec<PolicyId>| ids.iter().map(ToString::to_string).collect();
    let revision = server.ledger.current().revision().0;
    Ok(PushPoliciesResponse { put: names(replaced.put), gone: names(replaced.gone), revision })
}

fn policy(pushed: PushedPolicy) -> Result<(PolicyId, PolicyText), Status> {
    let PushedPolicy { id, text, lowers } = pushed;
    let lowers = match lowers.is_empty() {
        true => Default::default(),
        false => json::parse(&lowers)
            .and_then(serde_json::from_value)
            .map_err(|error| Status::invalid_argument(format!("lowers of {id:.64}: {error}")))?,
    };
    Ok((read("id", &id)?, PolicyText { text, lowers }))
}
