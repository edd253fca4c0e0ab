//! The server's state on one page, as JSON.

use std::time::Duration;

use registry::{
    Registry,
    objects::{Layer, NodeState, Slot, TaskState},
};
use serde_json::{Value, json};
use spiffe::Timestamp;

use crate::{Server, ca::rotation, now};

/// What `writ status` shows of a server. Field names are stable.
pub(crate) fn json(server: &Server) -> Value {
    let registry = server.ledger.current();
    let authorities: Vec<_> = registry.authorities().map(|authority| &*authority.value).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "trust_domain": registry.trust_domain(),
        "pin": server.trust.pin(),
        "listen": server.listening.to_string(),
        "socket": server.socket,
        "log": registry.log(),
        "revision": registry.revision(),
        "restored_from": server.lost.json(server.ledger.origin()),
        "waiting": server.ledger.waiting(),
        "entries": registry.entries().len(),
        "nodes": nodes(&registry),
        "tokens": registry.tokens().len(),
        "tasks": tasks(&registry),
        "reviews": reviews(&registry, now()),
        "authorities": authorities.iter().map(|authority| json!({
            "id": authority.id,
            "use": authority.used_for(),
            "slot": match authority.slot {
                Slot::Prepared => "prepared",
                Slot::Active => "active",
                Slot::Old { .. } => "old",
            },
            "tainted": authority.is_tainted(),
            "not_after": authority.not_after,
        })).collect::<Vec<_>>(),
        "ca_keys": server.config.ca_keys,
        "next_turn": rotation::next(&authorities),
        "ready": server.health.reasons().is_empty(),
        "reasons": server.health.reasons(),
        "time": now(),
        "insecure": insecure(server),
    })
}

fn nodes(registry: &Registry) -> Value {
    let count = |state| registry.nodes().filter(|node| node.state == state).count();
    json!({
        "active": count(NodeState::Active),
        "joining": count(NodeState::Joining),
        "banned": count(NodeState::Banned),
        "fenced": count(NodeState::Fenced),
        "restored": count(NodeState::Restored),
    })
}

fn tasks(registry: &Registry) -> Value {
    let count = |is: fn(&TaskState) -> bool| registry.tasks().filter(|task| is(&task.state)).count();
    json!({
        "active": count(|state| *state == TaskState::Active),
        "suspended": count(|state| matches!(state, TaskState::Suspended { .. })),
    })
}

/// Actors whose review is overdue, or will be soon: then their tasks are suspended.
fn reviews(registry: &Registry, now: Timestamp) -> Vec<Value> {
    let soon = registry.actors().filter(|actor| actor.review_at <= now + REVIEWED_AHEAD);
    let said = soon.map(|actor| {
        json!({ "actor": actor.id, "owner": actor.owner, "review_at": actor.review_at, "overdue": actor.review_at <= now })
    });
    said.collect()
}

const REVIEWED_AHEAD: Duration = Duration::from_secs(14 * 24 * 3600);

/// What an operator should not forget.
fn insecure(server: &Server) -> Vec<String> {
    let registry = server.ledger.current();
    let standing = registry.actors().filter(|actor| !actor.is_task_only()).map(|actor| {
        format!("the actor {} has its SPIFFE ID also without a task (insecure_standing_identity)", actor.id)
    });
    let lowering = registry.policies_of(&Layer::Platform).filter(|policy| !policy.lowers.is_nothing());
    let lowered = lowering.map(|policy| {
        format!("the policy {} lowers what tasks of some tiers need; see: writ policy show", policy.id)
    });
    let beyond = server.config.health_listen.filter(|address| !address.ip().is_loopback());
    beyond
        .map(|address| format!("health and metrics are open to everyone who reaches {address}"))
        .into_iter()
        .chain(standing)
        .chain(lowered)
        .collect()
}
