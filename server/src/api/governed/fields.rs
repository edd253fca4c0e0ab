//! Declarations, read: the short forms made whole, and the log's own fields, which a list shows, passed over.

use registry::{
    Key,
    decide::{
        actor::UpsertActor, mandate::DraftMandate, policy::PolicyText, resource::UpsertResource,
        tenant::UpsertTenant,
    },
    objects::{Actor, Resource, Tenant, Terms},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use spiffe::{Timestamp, TrustDomain};

use crate::api::{
    form::{seconds, whole_id},
    policies::UpsertPolicy,
};

/// JSON beyond this is refused before it is parsed.
const MAX_BODY: usize = 512 * 1024;

pub(super) fn tenant(body: &[u8]) -> Result<UpsertTenant, String> {
    let mut fields = parsed("tenant", body)?;
    drop_own(&mut fields, &["disabled"]);
    let Tenant { name, categories, .. } = object("tenant", fields)?;
    Ok(UpsertTenant { name, categories })
}

pub(super) fn actor(body: &[u8], trust_domain: &TrustDomain) -> Result<UpsertActor, String> {
    let mut fields = parsed("actor", body)?;
    drop_own(&mut fields, &["disabled", "overdue"]);
    whole(fields.get_mut("id"), trust_domain).map_err(|why| format!("actor: id {why}"))?;
    if let Some(Value::String(day)) = fields.get_mut("review_at")
        && day.len() == DAY.len()
    {
        day.push_str("T00:00:00Z");
    }
    object::<Actor>("actor", fields).map(|actor| UpsertActor { actor })
}

const DAY: &str = "2027-01-01";

/// Its terms, or what a list shows of it: the newest terms.
pub(super) fn mandate(body: &[u8], trust_domain: &TrustDomain) -> Result<DraftMandate, String> {
    let mut fields = parsed("mandate", body)?;
    let name = fields.remove("name").ok_or("mandate: it has no name")?;
    let name = serde_json::from_value(name).map_err(|error| format!("mandate: name: {error}"))?;
    let listed =
        |fields: &mut Map<String, Value>, side: &str| fields.remove(side).map(|mut it| it["terms"].take());
    let (drafted, approved) = (listed(&mut fields, "draft"), listed(&mut fields, "approved"));
    let written = fields.remove("terms").or(drafted).or(approved);
    drop_own(&mut fields, &["tenant"]);
    fields.remove("created_at");
    if let Some(other) = fields.keys().next() {
        return Err(format!("mandate {name}: unknown field {other:?}; what it allows stands under `terms`"));
    }
    let Some(Value::Object(mut terms)) = written else {
        return Err(format!("mandate {name}: it has no `terms`"));
    };
    let at = |why| format!("mandate {name}: {why}");
    whole(terms.get_mut("actor"), trust_domain).map_err(|why| at(format!("actor {why}")))?;
    for group in ["workloads", "parents"] {
        let ids = terms.get_mut("begin").and_then(|begin| begin.get_mut(group)).and_then(Value::as_array_mut);
        for id in ids.into_iter().flatten() {
            whole(Some(id), trust_domain).map_err(|why| at(format!("begin.{group}: {why}")))?;
        }
    }
    if let Some(ttl) = terms.get_mut("ttl") {
        *ttl = seconds(ttl).map_err(|why| at(format!("ttl {why}")))?;
    }
    let terms: Terms =
        serde_json::from_value(Value::Object(terms)).map_err(|error| at(format!("terms: {error}")))?;
    Ok(DraftMandate { name, terms })
}

pub(super) fn resource(body: &[u8], trust_domain: &TrustDomain) -> Result<UpsertResource, String> {
    let mut fields = parsed("resource", body)?;
    drop_own(&mut fields, &[]);
    let points = fields.get_mut("enforcement_points").and_then(Value::as_array_mut);
    for id in points.into_iter().flatten() {
        whole(Some(id), trust_domain).map_err(|why| format!("resource: enforcement_points: {why}"))?;
    }
    object::<Resource>("resource", fields).map(|resource| UpsertResource { resource })
}

pub(super) fn policy(body: &[u8]) -> Result<UpsertPolicy, String> {
    let mut fields = parsed("policy", body)?;
    fields.remove("pushed_at");
    fields.insert("pushed_at".to_owned(), json!(Timestamp::default())); // the log says when
    let policy: registry::objects::Policy =
        serde_json::from_value(Value::Object(fields)).map_err(|error| format!("policy: {error}"))?;
    Ok(UpsertPolicy { id: policy.id, said: PolicyText { text: policy.text, lowers: policy.lowers } })
}

/// The key of what is to be deleted, from its name as a JSON text.
pub(super) fn key(kind: &str, body: &[u8], trust_domain: &TrustDomain) -> Result<Key, String> {
    let short = body.get(..body.len().min(MAX_BODY)).unwrap_or_default();
    let mut name: Value = serde_json::from_slice(short)
        .map_err(|error| format!("this is not the name of a {kind}: {error}"))?;
    if kind == "actor" {
        whole(Some(&mut name), trust_domain)?;
    }
    let name = name.as_str().unwrap_or_default();
    let key: Key =
        format!("{kind}/{name}").parse().map_err(|_| format!("{name:?} is not the name of a {kind}"))?;
    match super::KINDS.contains(&key.kind()) {
        true => Ok(key),
        false => Err(format!("objects of kind {kind:?} are not declared")),
    }
}

fn parsed(kind: &str, body: &[u8]) -> Result<Map<String, Value>, String> {
    if body.len() > MAX_BODY {
        return Err(format!("a {kind} of {} bytes is longer than {MAX_BODY}", body.len()));
    }
    match spiffe::json::parse(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(format!("a {kind} is a JSON object")),
        Err(error) => Err(format!("this is not a {kind}'s JSON: {error}")),
    }
}

/// What only the log says.
fn drop_own(fields: &mut Map<String, Value>, others: &[&str]) {
    for field in others {
        fields.remove(*field);
    }
    fields.insert("created_at".to_owned(), json!(Timestamp::default()));
}

fn object<T: DeserializeOwned>(kind: &str, fields: Map<String, Value>) -> Result<T, String> {
    let name = fields.get("name").or(fields.get("id")).and_then(Value::as_str).unwrap_or("?").to_owned();
    serde_json::from_value(Value::Object(fields)).map_err(|error| format!("{kind} {name}: {error}"))
}

/// Makes an ID whole that may be written as a path.
fn whole(id: Option<&mut Value>, trust_domain: &TrustDomain) -> Result<(), String> {
    if let Some(Value::String(text)) = id {
        *text = whole_id(text, trust_domain)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn td() -> TrustDomain {
        "acme.example".parse().unwrap()
    }

    fn terms() -> Value {
        json!({
            "actor": "/agent/triage", "purpose": "sort", "begin": { "workloads": ["/scheduler"] }, "ttl": "15m",
            "scope": [{ "tool": "files/*" }], "environments": ["prod"], "tier": 1,
        })
    }

    #[test]
    fn short_forms_are_made_whole_and_what_a_list_shows_is_read_again() {
        let written = json!({ "name": "sort", "terms": terms() });
        let read = mandate(written.to_string().as_bytes(), &td()).unwrap();
        assert_eq!(read.terms.ttl, 900);
        assert_eq!(read.terms.actor.as_str(), "spiffe://acme.example/agent/triage");
        let listed = json!({
            "name": "sort", "tenant": "acme", "created_at": "2026-01-01T00:00:00Z",
            "approved": { "version": 1, "terms": {} }, "draft": { "version": 2, "terms": read.terms },
        });
        assert_eq!(mandate(listed.to_string().as_bytes(), &td()).unwrap().terms, read.terms);
        let actor_body = json!({
            "id": "/agent/triage", "tenant": "acme", "owner": "ada", "purpose": "p", "autonomy": 1, "review_at": "2027-05-01",
            "ceiling": { "scope": [] }, "disabled": "why", "overdue": true, "created_at": "2026-01-01T00:00:00Z",
        });
        let read = actor(actor_body.to_string().as_bytes(), &td()).unwrap().actor;
        assert_eq!((read.disabled, read.overdue), (None, false));
        assert_eq!(read.review_at.to_string(), "2027-05-01T00:00:00Z");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (read, says) in [
            (mandate(br#"{"name":"sort"}"#, &td()).map(drop), "mandate sort: it has no `terms`"),
            (mandate(br#"{"name":"sort","ttl":5}"#, &td()).map(drop), "unknown field \"ttl\""),
            (tenant(br#"{"name":"acme","name":"b"}"#).map(drop), "not a tenant's JSON"),
            (tenant(br#"{"name":"Acme"}"#).map(drop), "tenant Acme: "),
            (actor(br#"{"id":"triage"}"#, &td()).map(drop), "write a path such as"),
            (policy(br#"{"id":"x"}"#).map(drop), "policy: "),
            (key("actor", b"\"/a\"", &td()).map(drop), ""),
            (key("node", b"\"spiffe://acme.example/a\"", &td()).map(drop), "are not declared"),
            (key("task", b"\"x\"", &td()).map(drop), "is not the name of a task"),
        ] {
            match read {
                Ok(()) => assert!(says.is_empty()),
                Err(why) => assert!(why.contains(says) && !says.is_empty(), "{why}"),
            }
        }
    }
}
