//! Two agents with one key: a state directory was copied, and nobody can tell which of them is the node.

use std::time::Duration;

use serde_json::json;
use spiffe::{SpiffeId, Timestamp};

use crate::{
    decide::{
        Command, Decision, Moment, Proposal,
        node::{NodeRefusal, lost},
    },
    objects::{Node, NodeState, Sha256},
    record::Record,
    registry::Registry,
};

/// Somebody acted with a certificate that was the node's before the present one. The agent that has
/// the present one would not, so there are two of them; neither may go on.
#[derive(Clone, Debug)]
pub struct FenceNode {
    /// The ID in the certificate that was shown.
    pub id: SpiffeId,
    /// Its serial number, hex.
    pub serial: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo).
    pub key_sha256: Sha256,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Registry {
    /// Whether showing this certificate, which is valid, betrays a second agent with the node's key: an
    /// agent that has used a certificate never goes back to the one before.
    ///
    /// A certificate that outlasts all that are known here was given by a log that has been rolled back
    /// since, and one for another key by a node that has joined again: neither betrays a second agent.
    pub fn betrays_duplicate(&self, shown: &FenceNode) -> bool {
        self.node(&shown.id).is_some_and(|node| {
            node.state == NodeState::Active
                && node.serial != shown.serial
                && node.next_serial.as_ref() != Some(&shown.serial)
                && node.key_sha256.matches(&shown.key_sha256)
                && shown.not_after <= node.expires_at
        })
    }
}

impl Registry {
    /// Whether the node's present certificate came into use a moment ago. What was sent with the one
    /// before, on a connection that its agent has given up since, may still be on its way, and betrays nobody.
    pub fn has_just_changed(&self, id: &SpiffeId, now: Timestamp) -> bool {
        let since = self.node(id).and_then(|node| node.serial_since);
        since.is_some_and(|since| now < since + UNDER_WAY)
    }
}

/// A lost packet is sent again within this time, twice if need be (RFC 6298).
const UNDER_WAY: Duration = Duration::from_secs(1);

impl Command for FenceNode {
    /// Why the caller is refused.
    type Answer = NodeRefusal;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<NodeRefusal> {
        let Some(node) = registry.node(&self.id).filter(|_| registry.betrays_duplicate(&self)) else {
            let standing = registry.standing(&self.id, &self.serial);
            let answer = standing.err().unwrap_or(NodeRefusal::NotActive);
            return Decision { proposal: Proposal::default(), answer };
        };
        let (turned, tasks) = lost(registry, [&self.id], moment).done();
        let facts = json!({
            "node": self.id, "shown": self.serial, "current": node.serial, "key_sha256": self.key_sha256, "tasks": tasks,
        });
        let record = Record { kind: "node.duplicate_agent", outcome: Ok(()), facts };
        let fenced =
            Node { state: NodeState::Fenced, next_serial: None, next_key_sha256: None, ..Node::clone(node) };
        let changes = std::iter::once(registry.put_change(fenced)).chain(turned).collect();
        Decision { proposal: Proposal { changes, record: Some(record) }, answer: NodeRefusal::Fenced }
    }
}
