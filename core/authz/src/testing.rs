//! A small world for tests: the tenant `acme` with its mail and its files, and one of strangers.

use std::{sync::Arc, time::Duration};

use registry::{
    objects::{Object, Task, TaskId},
    scope::{Egress, Environment, Isolation, Label},
};
use serde_json::{Value, json};
use spiffe::{SpiffeId, Timestamp};

use crate::{Chain, Freshness, Now, Situation, ToolCall, Verdict, World, chain::Standing, judge};

pub(crate) const NOW: Now =
    Now { wall: Timestamp::from_unix_seconds(1_800_000_000), boot: Duration::from_secs(1000) };

pub(crate) fn later(seconds: u64) -> Now {
    Now { wall: NOW.wall + Duration::from_secs(seconds), boot: NOW.boot + Duration::from_secs(seconds) }
}

pub(crate) fn id(number: u8) -> TaskId {
    format!("01J00000000000000000000{number:03}").parse().unwrap()
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn created(mut value: Value) -> Value {
    value["created_at"] = "2026-01-01T00:00:00Z".into();
    value
}

pub(crate) fn actor(name: &str, tenant: &str) -> Object {
    Object::Actor(object(created(json!({
        "id": format!("spiffe://acme.example/agent/{name}"), "tenant": tenant, "owner": "ann", "purpose": "triage",
        "autonomy": 1, "ceiling": { "scope": [] }, "review_at": "2030-01-01T00:00:00Z",
    }))))
}

pub(crate) fn tenant(name: &str) -> Object {
    Object::Tenant(object(created(json!({ "name": name }))))
}

pub(crate) fn resource(value: Value) -> Object {
    let mut value = created(value);
    value["enforcement_points"] = json!(["spiffe://acme.example/gate"]);
    Object::Resource(object(value))
}

pub(crate) fn policy(id: &str, text: &str) -> Object {
    Object::Policy(object(json!({ "id": id, "text": text, "pushed_at": "2026-01-01T00:00:00Z" })))
}

pub(crate) fn world() -> World {
    let mut world = World::default();
    for object in [
        tenant("acme"),
        tenant("other"),
        actor("triage", "acme"),
        actor("helper", "acme"),
        resource(json!({
            "name": "files", "tenant": "acme", "stateful": true, "clearance": { "confidentiality": 3, "categories": ["pay"] },
            "tools": {
                "read": { "effect": "read" },
                "secret": { "effect": "read", "label": { "confidentiality": 2, "categories": ["pay"] } },
                "top": { "effect": "read", "label": { "confidentiality": 3 } },
                "write": { "effect": "write", "control_args": ["path"] },
                "pinned": { "effect": "read", "definition_sha256": "ab".repeat(32) },
            },
        })),
        resource(json!({
            "name": "mail", "tenant": "acme", "clearance": { "confidentiality": 1 },
            "tools": {
                "inbox": { "effect": "read", "label": { "sources": ["mail"] } },
                "send": { "effect": "net", "tier": 1, "control_args": ["to"] },
                "erase": { "effect": "delete" },
                "buy": { "effect": "pay" },
            },
        })),
        resource(json!({
            "name": "shop", "tenant": "other", "clearance": { "confidentiality": 3, "categories": ["pay"] },
            "tools": { "list": { "effect": "read" }, "order": { "effect": "write" }, "note": { "effect": "write", "tier": 1 } },
        })),
        policy(
            "actor/acme/all",
            "@id(\"acme-may\") permit(principal in Writ::Tenant::\"acme\", action, resource);",
        ),
        policy(
            "resource/acme/all",
            "@id(\"acme-lets\") permit(principal, action, resource in Writ::Tenant::\"acme\");",
        ),
        policy("resource/other/all", "@id(\"other-lets\") permit(principal, action, resource);"),
    ] {
        world.put(&object);
    }
    world.settle();
    assert_eq!(world.policies().faults().collect::<Vec<_>>(), [] as [&crate::policy::Fault; 0]);
    world
}

pub(crate) fn grant(task: u8, parent: Option<u8>) -> Task {
    let mut grant = json!({
        "id": id(task), "actor": "spiffe://acme.example/agent/triage", "tenant": "acme", "mandate": "triage",
        "mandate_version": 1, "purpose": "triage", "home": "spiffe://acme.example/spire/agent/join_token/a",
        "environment": "prod", "beginner": "itself", "root": id(1), "depth": 0, "depth_left": 3,
        "scope": [{ "tool": "files/*" }, { "tool": "mail/*" }, { "tool": "shop/*" }], "data_max": 2, "tier": 0,
        "isolation": "process", "egress": "open", "budget": { "actions": 1000, "denials": 3, "children": 4 },
        "asked_sha256": "00".repeat(32), "began_at": "2027-01-15T08:00:00Z", "expires_at": "2027-01-15T09:00:00Z", "state": { "is": "active" },
    });
    if let Some(parent) = parent {
        grant["parent"] = json!(id(parent));
        grant["depth"] = json!(1);
        grant["depth_left"] = json!(2);
        grant["actor"] = "spiffe://acme.example/agent/helper".into();
        grant["beginner"] = json!({ "parent": id(parent) });
    }
    object(grant)
}

/// A chain with one task.
pub(crate) fn chain() -> Chain {
    Chain::begin(Arc::new(grant(1, None)), Standing::default(), NOW)
}

pub(crate) fn call(tool: &str, arguments: Value) -> ToolCall {
    ToolCall::new(tool.parse().unwrap(), Some(arguments)).unwrap()
}

/// The facts of a moment that every rule likes, for a test to spoil one of.
pub(crate) struct Good {
    pub(crate) gate: SpiffeId,
    pub(crate) environment: Environment,
    pub(crate) nothing: Label,
}

impl Default for Good {
    fn default() -> Self {
        Self {
            gate: "spiffe://acme.example/gate".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            nothing: Label::default(),
        }
    }
}

impl Good {
    pub(crate) fn situation(&self) -> Situation<'_> {
        Situation {
            enforcement_point: &self.gate,
            remote: false,
            is_member: true,
            is_as_measured: true,
            environment: &self.environment,
            isolation: Isolation::Process,
            egress: Egress::Open,
            domain: &self.nothing,
            stored: &self.nothing,
            head: Some(NOW.boot),
            confirmed: true,
            freshness: Freshness::default(),
        }
    }
}

/// Judges a call of the first task in a good moment.
pub(crate) fn ask(chain: &mut Chain, world: &World, call: &ToolCall) -> Verdict {
    judge(chain, &id(1), world, &Good::default().situation(), call, NOW)
}

/// A proof that something was recorded, made as a spool makes it.
pub(crate) fn durable() -> audit::Recorded {
    audit::Chain::new(None).link(&audit::Record::default()).unwrap().synced()
}
