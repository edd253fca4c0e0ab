//! What a grant and a transaction token say.

use registry::{
    Registry,
    objects::{Beginner, Sha256, Task},
};
use serde_json::{Map, Value, json};
use spiffe::{SpiffeId, Timestamp, TrustDomain, jwt::Type};
use tonic::Status;

use crate::ca::{Token, TokenIssuer};

/// The server's statement that this task was granted.
pub(super) fn grant(
    issuer: &TokenIssuer,
    trust_domain: &TrustDomain,
    task: &Task,
    now: Timestamp,
) -> Result<String, Status> {
    let claims = json!({ "iss": trust_domain.id(), "task": task });
    signed(issuer, Type::Grant, claims, now, task.expires_at).map(|token| token.token)
}

/// A transaction token: context of a call inside the trust domain, never authentication by itself. No label is in
/// it, because labels are live.
pub(super) fn transaction(
    issuer: &TokenIssuer,
    registry: &Registry,
    task: &Task,
    now: Timestamp,
    end: Timestamp,
) -> Result<Token, Status> {
    let digest = |value: Value| {
        let bytes = spiffe::json::canonical(&value).map_err(|error| Status::internal(error.to_string()))?;
        Ok::<_, Status>(Sha256::of(&bytes))
    };
    let trust_domain = registry.trust_domain().id();
    let workload = task.spiffe_id().map_err(|error| Status::internal(error.to_string()))?;
    let (subject, act) = on_whose_behalf(registry, task);
    let claims = json!({
        "iss": trust_domain,
        "aud": trust_domain,
        "txn": task.root,
        "sub": subject,
        "req_wl": workload,
        "scope": digest(json!(task.scope))?,
        "act": act,
        "tctx": {
            "task": task.id,
            "parent": task.parent,
            "mandate": task.mandate,
            "version": task.mandate_version,
            "purpose": task.purpose,
            // With the task's name in it, which nobody guesses beforehand.
            "params": digest(json!({ "task": task.id, "params": task.params }))?,
            "tier": task.tier,
            "data_max": task.data_max,
            "depth": task.depth,
        },
        "rctx": {
            "env": task.environment,
            "node": task.home,
            "isolation": task.isolation,
            "egress": task.egress,
        },
    });
    signed(issuer, Type::Transaction, claims, now, end)
}

/// Who caused the whole chain, and the actors from this one up to the first (RFC 8693 section 4.1).
fn on_whose_behalf(registry: &Registry, task: &Task) -> (SpiffeId, Value) {
    let mut chain = vec![task];
    while let Some(above) =
        chain.last().and_then(|task| task.parent.as_ref()).and_then(|id| registry.task(id))
    {
        chain.push(above);
        if chain.len() > usize::from(u8::MAX) {
            break; // depth is bounded far below
        }
    }
    let root = chain.last().copied().unwrap_or(task);
    let subject = match &root.beginner {
        Beginner::Workload(workload) => workload.clone(),
        Beginner::Itself | Beginner::Parent(_) => root.actor.clone(),
    };
    let act = chain.iter().rev().fold(Value::Null, |above, task| match above {
        Value::Null => json!({ "sub": task.actor }),
        above => json!({ "sub": task.actor, "act": above }),
    });
    (subject, act)
}

fn signed(
    issuer: &TokenIssuer,
    typ: Type,
    claims: Value,
    now: Timestamp,
    end: Timestamp,
) -> Result<Token, Status> {
    let claims: Map<String, Value> = match claims {
        Value::Object(claims) => claims,
        _ => return Err(Status::internal("claims are an object")),
    };
    issuer.issue_typed(typ, claims, now, end).map_err(|error| {
        tracing::error!(%error, "a token of a task cannot be signed");
        Status::unavailable("the token cannot be signed now; try again")
    })
}
