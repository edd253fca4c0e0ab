//! Tasks as the agents ask for them: begun, given credentials, and told of.
//!
//! What an agent says is a wish or an observation. Everything that a task may, the registry decides; here it is signed
//! for, and nothing leaves before it is recorded.

pub(crate) mod begin;
pub(crate) mod credentials;
mod grant;
mod refusals;

use registry::{
    Registry,
    objects::{Task, TaskId},
};
use spiffe::{SpiffeId, Timestamp};
use tonic::Status;

pub(crate) use refusals::Refusals;

use crate::ca::{Issued, Issuer, Subject, SubjectKey};

/// A live task that the asking node holds, of an actor that is still placed there. Of others' tasks it hears nothing.
fn held<'a>(
    registry: &'a Registry,
    node: &SpiffeId,
    id: &TaskId,
    now: Timestamp,
) -> Result<&'a Task, Status> {
    let task = registry.task(id).map(|task| &*task.value).filter(|task| task.home == *node);
    let task = task.ok_or_else(|| Status::not_found(format!("there is no task {id} on this node")))?;
    if !task.is_live(now) {
        return Err(Status::failed_precondition(format!("the task {id} is not active")));
    }
    let mut entries = registry.givers(&task.actor);
    match entries.any(|entry| registry.in_view(node, &entry.id, now).is_some()) {
        true => Ok(task),
        false => {
            Err(Status::permission_denied(format!("{} is not placed on this node any more", task.actor)))
        }
    }
}

/// Signs a certificate for a task, which it does not outlive.
fn certify(issuer: &Issuer, task: &Task, key: &SubjectKey, now: Timestamp) -> Result<Issued, Status> {
    let id = task.spiffe_id().map_err(|error| Status::internal(error.to_string()))?;
    let end = task.expires_at.min(now + task.tier.longest_svid_ttl());
    issuer.issue(Subject { id: &id, dns_names: &[] }, key, now, end).map_err(|error| {
        tracing::error!(task = %task.id, %error, "a task's certificate cannot be signed");
        Status::unavailable("the certificate cannot be signed now; try again")
    })
}
