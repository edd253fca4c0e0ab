//! A node comes back by its key alone: its certificate has ended, or the authority behind it is gone.

use serde_json::json;
use spiffe::{SpiffeId, Timestamp};

use crate::{
    decide::{Command, Decision, Moment, Proposal, node::NodeRefusal},
    objects::{Node, NodeState, Sha256},
    record::Record,
    registry::Registry,
};

/// A node that proved that it has its key gets a certificate. Like a renewed one, it counts from its
/// first use on, so a lost reply takes nothing.
#[derive(Clone, Debug)]
pub struct ReturnNode {
    /// The node's ID.
    pub id: SpiffeId,
    /// SHA-256 of the key that it proved (SubjectPublicKeyInfo), and that the certificate is for.
    pub key_sha256: Sha256,
    /// Serial number (hex) of the certificate that it gets.
    pub serial: String,
    /// When that certificate ends.
    pub not_after: Timestamp,
}

impl Registry {
    /// Whether whoever proved this key may return as this node. The door asks before it signs; the
    /// command asks again. Another key than the node's hears no more than if there were no such node.
    pub fn may_return(
        &self,
        id: &SpiffeId,
        key_sha256: &Sha256,
        now: Timestamp,
    ) -> Result<&Node, NodeRefusal> {
        let node = self.node(id).filter(|node| node.has_key(key_sha256)).ok_or(NodeRefusal::NotAttested)?;
        match node.state {
            NodeState::Banned => Err(NodeRefusal::Banned),
            NodeState::Fenced => Err(NodeRefusal::Fenced),
            _ if node.expires_at + self.settings().return_window <= now => Err(NodeRefusal::AwayTooLong),
            NodeState::Joining | NodeState::Active | NodeState::Restored => Ok(node),
        }
    }
}

impl Command for ReturnNode {
    type Answer = Result<(), NodeRefusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let node = match registry.may_return(&self.id, &self.key_sha256, moment.now) {
            Ok(node) => node,
            // The door counts it. Whoever is refused tries again and again, and the log must not grow by it.
            Err(refusal) => return Decision { proposal: Proposal::default(), answer: Err(refusal) },
        };
        let Self { id, key_sha256, serial, not_after } = self;
        let facts = json!({ "node": id, "serial": serial, "key_sha256": key_sha256, "ended": node.expires_at, "was": node.state });
        let returned = match node.state {
            // Nothing that it ever got counts; this is what it gets instead.
            NodeState::Joining | NodeState::Restored => Node {
                serial,
                key_sha256,
                next_serial: None,
                next_key_sha256: None,
                expires_at: not_after,
                state: NodeState::Joining,
                ..node.clone()
            },
            _ => Node {
                next_serial: Some(serial),
                next_key_sha256: (key_sha256 != node.key_sha256).then_some(key_sha256),
                expires_at: not_after,
                ..node.clone()
            },
        };
        let record = Some(Record { kind: "node.return", outcome: Ok(()), facts });
        Decision {
            proposal: Proposal { changes: vec![registry.put_change(returned)], record },
            answer: Ok(()),
        }
    }
}
