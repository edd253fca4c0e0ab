//! What an agent asks of tasks, and what it says became of them.

use std::str::FromStr;

use proto::writ::node::v1::{self as node, task_change};
use registry::{
    Object, Stored,
    decide::task::{HomeChange, To, Wish},
    objects::{Reason, Task, TaskId},
    scope::{Params, Scope},
};
use serde::de::DeserializeOwned;
use spiffe::{Timestamp, json};

use super::{WireError, delta::stored};

/// So many changes are told in one call.
pub const MAX_CHANGES: usize = 500;
const MAX_PARAMS: usize = 16 * 1024;
const MAX_SCOPE: usize = 32 * 1024;

/// What a request to begin a task says; its key is looked at where keys are.
pub fn begin(request: &node::BeginTaskRequest) -> Result<(TaskId, Wish), WireError> {
    let wish = Wish {
        mandate: text("mandate", &request.mandate)?,
        entry: text("entry_id", &request.entry_id)?,
        params: object::<Params>("params", &request.params, MAX_PARAMS)?.unwrap_or_default(),
        scope: object::<Scope>("scope", &request.scope, MAX_SCOPE)?,
        ttl: (request.ttl != 0).then_some(request.ttl),
        note: request.note.clone(),
        parent: optional("parent", &request.parent)?,
        beginner: optional("beginner_entry_id", &request.beginner_entry_id)?,
        isolation: word("isolation", &request.isolation)?,
        egress: word("egress", &request.egress)?,
    };
    Ok((text("id", &request.id)?, wish))
}

/// The request that says this.
pub fn begin_request(id: &TaskId, wish: &Wish, public_key: &[u8]) -> node::BeginTaskRequest {
    let json = |value: Result<Vec<u8>, _>| value.unwrap_or_default().into();
    node::BeginTaskRequest {
        mandate: wish.mandate.to_string(),
        entry_id: wish.entry.to_string(),
        params: json(serde_json::to_vec(&wish.params)),
        scope: wish.scope.as_ref().map(|scope| json(serde_json::to_vec(scope))).unwrap_or_default(),
        ttl: wish.ttl.unwrap_or_default(),
        note: wish.note.clone(),
        parent: wish.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        beginner_entry_id: wish.beginner.as_ref().map(ToString::to_string).unwrap_or_default(),
        isolation: wish.isolation.as_str().to_owned(),
        egress: wish.egress.as_str().to_owned(),
        public_key: public_key.to_vec().into(),
        id: id.to_string(),
    }
}

/// A task as the server has it.
pub fn task_object(version: u64, task: Task) -> node::Object {
    let object = Object::from(task);
    node::Object { key: object.key().to_string(), version, body: object.to_json().into() }
}

/// The task in an answer, and the version that the log gave it.
pub fn task(object: Option<&node::Object>) -> Result<(u64, std::sync::Arc<Task>), WireError> {
    let missing = || WireError("task: it is missing".to_owned());
    match stored(object.ok_or_else(missing)?)? {
        Stored { version, object: Object::Task(task) } => Ok((version, task)),
        Stored { object, .. } => Err(WireError::field("task", format_args!("it is {}", object.key()))),
    }
}

/// One change that a home tells.
pub fn change(change: &node::TaskChange) -> Result<HomeChange, WireError> {
    let reason = || word::<Reason>("reason", &change.reason);
    let to = match change.to() {
        task_change::To::Unspecified => return Err(WireError("to: it is missing or unknown".to_owned())),
        task_change::To::Suspended => To::Suspended(reason()?),
        task_change::To::Ended => To::Ended(reason()?),
        task_change::To::Closed => To::Closed,
    };
    Ok(HomeChange { task: text("task", &change.task)?, to, at: Timestamp::from_unix_millis(change.at) })
}

/// The message that tells this.
pub fn change_message(change: &HomeChange) -> node::TaskChange {
    let (to, reason) = match change.to {
        To::Suspended(reason) => (task_change::To::Suspended, reason.as_str()),
        To::Ended(reason) => (task_change::To::Ended, reason.as_str()),
        To::Closed => (task_change::To::Closed, ""),
    };
    node::TaskChange {
        task: change.task.to_string(),
        to: to.into(),
        reason: reason.to_owned(),
        at: change.at.unix_millis(),
    }
}

fn text<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, WireError> {
    let shown: String = text.chars().take(64).collect();
    match text.len() > MAX_TEXT {
        true => Err(WireError::field(field, format_args!("{shown:?} is too long"))),
        false => text.parse().map_err(|error| WireError::field(field, error)),
    }
}

const MAX_TEXT: usize = 2048;

fn optional<T: FromStr<Err: std::fmt::Display>>(field: &str, value: &str) -> Result<Option<T>, WireError> {
    if value.is_empty() { Ok(None) } else { text(field, value).map(Some) }
}

/// One of the words of a closed list.
fn word<T: DeserializeOwned>(field: &str, word: &str) -> Result<T, WireError> {
    let shown: String = word.chars().take(64).collect();
    serde_json::from_value(shown.as_str().into())
        .map_err(|_| WireError::field(field, format_args!("{shown:?} is unknown")))
}

/// JSON in which no name comes twice; nothing where there is none.
fn object<T: DeserializeOwned>(field: &str, bytes: &[u8], most: usize) -> Result<Option<T>, WireError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > most {
        return Err(WireError::field(field, format_args!("{} bytes; at most {most} are read", bytes.len())));
    }
    let value = json::parse(bytes).map_err(|error| WireError::field(field, error))?;
    serde_json::from_value(value).map(Some).map_err(|error| WireError::field(field, error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wish() -> Wish {
        let read = |value| serde_json::from_value(value).unwrap();
        Wish {
            mandate: "m".parse().unwrap(),
            entry: "e".parse().unwrap(),
            params: read(json!({ "dir": "/x", "n": 7, "yes": true })),
            scope: Some(serde_json::from_value(json!([{ "tool": "files/read" }])).unwrap()),
            ttl: Some(60),
            note: "a note".to_owned(),
            parent: Some("01K00000000000000000000000".parse().unwrap()),
            beginner: None,
            isolation: serde_json::from_value(json!("cgroup")).unwrap(),
            egress: serde_json::from_value(json!("confined")).unwrap(),
        }
    }

    #[test]
    fn a_wish_arrives_as_it_was_said() {
        let id: TaskId = "01K00000000000000000000001".parse().unwrap();
        let (read_id, read) = begin(&begin_request(&id, &wish(), b"key")).unwrap();
        assert_eq!(read_id, id);
        assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(wish()).unwrap());
    }

    #[test]
    fn what_a_request_may_not_say_is_refused_by_its_field() {
        let good = begin_request(&"01K00000000000000000000001".parse().unwrap(), &wish(), b"key");
        let changed = |change: fn(&mut node::BeginTaskRequest)| {
            let mut request = good.clone();
            change(&mut request);
            begin(&request).unwrap_err().to_string()
        };
        for (said, field) in [
            (changed(|r| r.id = "x".into()), "id"),
            (changed(|r| r.mandate = "a b".into()), "mandate"),
            (changed(|r| r.entry_id = "x".repeat(5000)), "entry_id"),
            (changed(|r| r.params = b"[1]".to_vec().into()), "params"),
            (changed(|r| r.params = br#"{"a":1,"a":2}"#.to_vec().into()), "params"),
            (changed(|r| r.params = vec![b' '; MAX_PARAMS + 1].into()), "params"),
            (changed(|r| r.params = br#"{"a":1.5}"#.to_vec().into()), "params"),
            (changed(|r| r.scope = br#"[{"tool":"files"}]"#.to_vec().into()), "scope"),
            (changed(|r| r.isolation = "jail".into()), "isolation"),
            (changed(|r| r.egress = String::new()), "egress"),
            (changed(|r| r.parent = "01K".into()), "parent"),
        ] {
            assert!(said.starts_with(&format!("{field}: ")), "{said}");
        }
    }

    #[test]
    fn a_change_arrives_as_it_was_told() {
        let task: TaskId = "01K00000000000000000000001".parse().unwrap();
        for to in [To::Suspended(Reason::Probing), To::Ended(Reason::DomainDead), To::Closed] {
            let told = HomeChange { task: task.clone(), to, at: Timestamp::from_unix_millis(7) };
            let read = change(&change_message(&told)).unwrap();
            assert_eq!((read.task, read.to, read.at), (told.task, told.to, told.at));
        }
        assert!(change(&node::TaskChange { task: task.to_string(), ..Default::default() }).is_err());
    }
}
