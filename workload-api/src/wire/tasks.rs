//! Messages of `writ.task.v1`.

use bytes::Bytes;
use prost::Message as _;
use proto::writ::task::v1::{
    BeginRequest, BeginResponse, EndRequest, EndResponse, Task, TokenRequest, TokenResponse, WatchResponse,
};
use registry::{
    objects::TaskId,
    scope::{Params, Scope},
};
use serde::de::DeserializeOwned;

use crate::{NoTask, TaskShown, TaskToken, Wish};

/// What is to begin.
pub(crate) fn begin_request(message: &[u8]) -> Result<Wish, NoTask> {
    let BeginRequest { mandate, params, scope, ttl, note } =
        BeginRequest::decode(message).map_err(|_| unreadable())?;
    wish(&mandate, &params, &scope, ttl, note)
}

/// The same from its parts, wherever they stood.
pub(super) fn wish(
    mandate: &str,
    params: &[u8],
    scope: &[u8],
    ttl: u32,
    note: String,
) -> Result<Wish, NoTask> {
    let mandate =
        mandate.parse().map_err(|error: registry::objects::TextError| NoTask::Invalid(error.to_string()))?;
    let params: Params = json("the parameters", params)?.unwrap_or_default();
    let scope: Option<Scope> = json("the scope", scope)?;
    if note.len() > MAX_NOTE || note.chars().any(char::is_control) {
        return Err(NoTask::Invalid(format!("a note is one line of at most {MAX_NOTE} bytes")));
    }
    Ok(Wish { mandate, params, scope, ttl: (ttl != 0).then_some(ttl), note })
}

/// The task that began, framed.
pub(crate) fn begin_response(task: TaskShown) -> Bytes {
    super::framed(&BeginResponse { task: Some(shown(task)) })
}

/// All tasks of a domain, framed.
pub(crate) fn watch_response(tasks: Vec<TaskShown>) -> Bytes {
    super::framed(&WatchResponse { tasks: tasks.into_iter().map(shown).collect() })
}

/// Which task is to end; `None` is the only one.
pub(crate) fn end_request(message: &[u8]) -> Result<Option<TaskId>, NoTask> {
    named(&EndRequest::decode(message).map_err(|_| unreadable())?.id)
}

/// It has ended, framed.
pub(crate) fn end_response(id: &TaskId) -> Bytes {
    super::framed(&EndResponse { id: id.to_string() })
}

/// Of which task a token is wanted.
pub(crate) fn token_request(message: &[u8]) -> Result<Option<TaskId>, NoTask> {
    named(&TokenRequest::decode(message).map_err(|_| unreadable())?.id)
}

/// A token, framed.
pub(crate) fn token_response(token: TaskToken) -> Bytes {
    super::framed(&TokenResponse { token: token.token, expires_at: token.expires_at.unix_millis() })
}

fn shown(TaskShown { id, spiffe_id, json }: TaskShown) -> Task {
    Task { id: id.to_string(), spiffe_id: spiffe_id.to_string(), json: json.into() }
}

fn named(id: &str) -> Result<Option<TaskId>, NoTask> {
    if id.is_empty() {
        return Ok(None);
    }
    id.parse().map(Some).map_err(|error: registry::objects::TextError| NoTask::Invalid(error.to_string()))
}

/// Nothing where nothing is said. A member that is there twice could be read in two ways, so it is refused.
fn json<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<Option<T>, NoTask> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let value = spiffe::json::parse(bytes).and_then(serde_json::from_value);
    value.map(Some).map_err(|error| NoTask::Invalid(format!("{what} cannot be read: {error}")))
}

fn unreadable() -> NoTask {
    NoTask::Invalid("the request's message cannot be read".to_owned())
}

const MAX_NOTE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(params: &str, scope: &str) -> Result<Wish, NoTask> {
        let request = BeginRequest {
            mandate: "report".to_owned(),
            params: params.as_bytes().to_vec().into(),
            scope: scope.as_bytes().to_vec().into(),
            ..BeginRequest::default()
        };
        begin_request(&request.encode_to_vec())
    }

    #[test]
    fn what_is_not_said_is_all_of_the_mandate() {
        let wish = request("", "").unwrap();
        assert!(wish.scope.is_none() && wish.ttl.is_none() && wish.params.is_empty());
    }

    #[test]
    fn a_parameter_that_is_there_twice_is_refused() {
        assert!(request(r#"{"to":"a"}"#, "").is_ok());
        assert!(matches!(request(r#"{"to":"a","to":"b"}"#, ""), Err(NoTask::Invalid(_))));
        assert!(matches!(request("[", ""), Err(NoTask::Invalid(_))));
        assert!(matches!(request("", "{}"), Err(NoTask::Invalid(_))));
        assert!(matches!(begin_request(b"\xff"), Err(NoTask::Invalid(_))));
    }
}
