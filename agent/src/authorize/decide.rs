//! The same question as a query, for an administrator: nothing is permitted, spent or recorded.

use std::sync::Arc;

use authz::{BadCall, BadJson, Json, Limits, ToolCall};
use registry::objects::TaskId;
use serde_json::Value;
use spiffe::SpiffeId;

use super::{Authorizer, Question};
use crate::clock;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The request is no JSON.
    #[error(transparent)]
    Json(#[from] BadJson),
    /// It is no call.
    #[error(transparent)]
    Call(#[from] BadCall),
    /// It names no task.
    #[error("the request names no task; it is one JSON object with `task`, `tool` and `arguments`")]
    Taskless,
    /// No such task.
    #[error("there is no live task {0} on this node; list them with: writ task list")]
    NoTask(TaskId),
    /// Nobody is in its domain.
    #[error("the task {0} has no process at this moment")]
    NoProcess(TaskId),
    /// No such resource, or nobody guards it.
    #[error("nobody guards the resource {0}; name its enforcement points with: writ apply")]
    Unguarded(String),
}

impl Authorizer {
    /// What the decision about a call of a task would be now, with everything that it rests on, as JSON.
    pub(crate) fn decide(&self, request: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        let (task, call) = parse(request)?;
        let live = self.home.book.get(&task).ok_or_else(|| NoAnswer::NoTask(task.clone()))?;
        let client =
            live.domain.processes().into_iter().next().ok_or_else(|| NoAnswer::NoProcess(task.clone()))?;
        let governance = self.home.governing.now();
        let name = call.tool().resource();
        let resource = governance.world.resource(&name);
        let guard = resource.and_then(|resource| resource.enforcement_points.first().cloned());
        let gate: Arc<SpiffeId> = Arc::new(guard.ok_or_else(|| NoAnswer::Unguarded(name.to_string()))?);
        let question = Question { gate, client, task: None, call, asked: clock::boot() };
        let moment = self.moment(&live, &question);
        // Whether the server would confirm it is known only when it is asked.
        let situation = authz::Situation { confirmed: true, ..moment.situation() };
        let mut chain = live.chain.lock().copy();
        let verdict =
            authz::judge(&mut chain, &task, &governance.world, &situation, &question.call, clock::both());
        Ok(serde_json::to_vec(&verdict).unwrap_or_default())
    }
}

/// The task beside the call, which is as it is on the wire.
fn parse(request: &[u8]) -> Result<(TaskId, ToolCall), NoAnswer> {
    let Value::Object(mut members) = Json::parse(request, LIMITS)?.into_value() else {
        return Err(NoAnswer::Taskless);
    };
    let task =
        members.remove("task").and_then(|task| task.as_str()?.parse().ok()).ok_or(NoAnswer::Taskless)?;
    let call = serde_json::to_vec(&members).unwrap_or_default();
    Ok((task, ToolCall::parse(&call, LIMITS)?))
}

/// A call's arguments, and what is beside them.
const LIMITS: Limits = Limits { bytes: 96 * 1024, depth: 34 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_call_with_its_task() {
        let request =
            br#"{ "task": "01J00000000000000000000001", "tool": "mail/send", "arguments": { "to": "a" } }"#;
        let (task, call) = parse(request).unwrap();
        assert_eq!((task.as_str(), call.tool().as_str()), ("01J00000000000000000000001", "mail/send"));
        assert!(matches!(parse(br#"{ "tool": "mail/send" }"#), Err(NoAnswer::Taskless)));
        assert!(matches!(parse(b"[]"), Err(NoAnswer::Taskless)));
        assert!(parse(br#"{ "task": "01J00000000000000000000001", "tool": "mail" }"#).is_err());
    }
}
