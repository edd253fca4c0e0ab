//! The server's state on one page, as JSON.

use registry::{
    Registry,
    objects::{NodeState, Slot},
};
use serde_json::{Value, json};

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

/// What an operator should not forget.
fn insecure(server: &Server) -> Vec<String> {
    let beyond = server.config.health_listen.filter(|address| !address.ip().is_loopback());
    beyond
        .map(|address| format!("health and metrics are open to everyone who reaches {address}"))
        .into_iter()
        .collect()
}
