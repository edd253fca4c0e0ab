//! Nodes after they attested: first call, renewal, and how they are turned away.

use serde_json::json;
use spiffe::{SpiffeId, Timestamp};

use crate::{
    commit::Change,
    decide::{Command, Decision, Moment, Proposal, Refusal, task::Turns},
    index::Holder,
    objects::{Key, Node, NodeState, Reason, Sha256, Token, TokenState, well_known},
    record::Record,
    registry::Registry,
};

/// A node made an authenticated call. The first one with a new certificate makes that certificate
/// the node's, ends `Joining`, and spends the token; every other changes nothing.
#[derive(Clone, Debug)]
pub struct NodeSeen {
    /// The ID in its certificate.
    pub id: SpiffeId,
    /// Its certificate's serial number, hex.
    pub serial: String,
}

/// A node gets its next certificate; the present one counts until the next is used.
#[derive(Clone, Debug)]
pub struct RenewNode {
    /// The ID in its certificate.
    pub id: SpiffeId,
    /// Serial number (hex) of the certificate that it called with.
    pub presented: String,
    /// Serial number (hex) of the next one.
    pub serial: String,
    /// SHA-256 of the next one's public key (SubjectPublicKeyInfo).
    pub key_sha256: Sha256,
    /// When the next one ends.
    pub not_after: Timestamp,
}

/// Forgets a node, banned or not; it may attest again with a new token.
#[derive(Clone, Debug)]
pub struct EvictNode {
    /// The node's ID.
    pub id: SpiffeId,
}

/// Refuses a node until it is evicted.
#[derive(Clone, Debug)]
pub struct BanNode {
    /// The node's ID.
    pub id: SpiffeId,
}

/// Forgets nodes whose newest certificate ended before a moment. Bans stay.
#[derive(Clone, Debug)]
pub struct PurgeNodes {
    /// The moment.
    pub ended_before: Timestamp,
}

/// Why a node's call is refused. What its agent must do follows from which it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NodeRefusal {
    /// The node is unknown, or was evicted.
    #[error("this node has not attested; join it again with a new token from: writ token create --node NAME")]
    NotAttested,
    /// The certificate is not, or no longer, the node's.
    #[error("this certificate is not the node's current one; join the node again with a new token")]
    NotActive,
    /// The server was restored, so it does not know which certificate is the node's.
    #[error("the server was restored from a backup; this node must come back by its key")]
    Restored,
    /// Two agents use its key.
    #[error(
        "two agents use this node's key, and neither may go on; make sure whose machine is the node, and \
             join it again with a new token from: writ token create --node NAME"
    )]
    Fenced,
    /// It was away for longer than the server's `return_window`.
    #[error(
        "this node was away for longer than the server's return_window; join it again with a new token \
             from: writ token create --node NAME"
    )]
    AwayTooLong,
    /// An administrator banned it.
    #[error("this node is banned; an administrator can lift the ban with: writ node evict NAME")]
    Banned,
}

/// What a call with a valid certificate means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// The node may act.
    Good,
    /// It may act once [`NodeSeen`] is committed.
    First,
}

impl From<NodeRefusal> for Refusal {
    fn from(refusal: NodeRefusal) -> Self {
        Self::Denied(refusal.to_string())
    }
}

impl Registry {
    /// Whether the node with this certificate may act: asked for each call, from memory alone.
    pub fn standing(&self, id: &SpiffeId, serial: &str) -> Result<Standing, NodeRefusal> {
        let node = self.node(id).ok_or(NodeRefusal::NotAttested)?;
        match node.state {
            NodeState::Banned => Err(NodeRefusal::Banned),
            NodeState::Fenced => Err(NodeRefusal::Fenced),
            NodeState::Restored => Err(NodeRefusal::Restored),
            NodeState::Active if node.serial == serial => Ok(Standing::Good),
            NodeState::Joining if node.serial == serial => Ok(Standing::First),
            _ if node.next_serial.as_deref() == Some(serial) => Ok(Standing::First),
            NodeState::Active | NodeState::Joining => Err(NodeRefusal::NotActive),
        }
    }
}

impl Command for NodeSeen {
    type Answer = Result<(), NodeRefusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Some(node) = registry.node(&self.id) else { return nothing(Err(NodeRefusal::NotAttested)) };
        match registry.standing(&self.id, &self.serial) {
            Err(refusal) => nothing(Err(refusal)),
            Ok(Standing::Good) => nothing(Ok(())),
            Ok(Standing::First) => {
                let key_sha256 = match node.next_serial.as_ref() == Some(&self.serial) {
                    true => node.next_key_sha256.unwrap_or(node.key_sha256),
                    false => node.key_sha256,
                };
                let seen = Node {
                    replaced_keys: node.replaced_by(&key_sha256),
                    key_sha256,
                    serial: self.serial.clone(),
                    serial_since: (node.serial != self.serial).then_some(moment.now),
                    next_serial: None,
                    next_key_sha256: None,
                    state: NodeState::Active,
                    ..Node::clone(node)
                };
                let mut changes = vec![registry.put_change(seen)];
                changes.extend(spent(registry, &self.id, key_sha256));
                let facts = json!({ "node": self.id, "serial": self.serial, "key_sha256": key_sha256 });
                recorded("node.seen", facts, changes, Ok(()))
            }
        }
    }
}

/// The token that brought this key here, spent.
fn spent(registry: &Registry, id: &SpiffeId, key_sha256: Sha256) -> Option<Change> {
    let token = registry.token(&well_known::joined_node_name(id)?)?;
    (token.state == TokenState::Bound { key_sha256 }).then(|| {
        registry.put_change(Token { state: TokenState::Spent { key_sha256 }, ..Token::clone(token) })
    })
}

impl Command for RenewNode {
    type Answer = Result<(), NodeRefusal>;
    fn decide(self, registry: &Registry, _: &Moment) -> Decision<Self::Answer> {
        let facts = json!({ "node": self.id, "presented": self.presented, "serial": self.serial });
        let current = match registry.standing(&self.id, &self.presented) {
            Ok(Standing::Good) => registry.node(&self.id).ok_or(NodeRefusal::NotAttested),
            Ok(Standing::First) => Err(NodeRefusal::NotActive), // its first call has not been seen
            Err(refusal) => Err(refusal),
        };
        match current {
            Err(refusal) => {
                let record = Record { kind: "node.renew", outcome: Err(refusal.to_string()), facts };
                Decision {
                    proposal: Proposal { changes: Vec::new(), record: Some(record) },
                    answer: Err(refusal),
                }
            }
            Ok(node) => {
                let renewed = Node {
                    next_serial: Some(self.serial),
                    next_key_sha256: (self.key_sha256 != node.key_sha256).then_some(self.key_sha256),
                    expires_at: self.not_after,
                    ..Node::clone(node)
                };
                recorded("node.renew", facts, vec![registry.put_change(renewed)], Ok(()))
            }
        }
    }
}

impl Command for EvictNode {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let facts = json!({ "node": self.id });
        let Some(node) = registry.node(&self.id) else {
            return Decision::refused("node.evict", facts, unknown(&self.id));
        };
        let (turned, tasks) = lost(registry, [&self.id], moment).done();
        let facts = json!({ "node": self.id, "tasks": tasks });
        Decision::done("node.evict", facts, forgotten(registry, node).into_iter().chain(turned).collect(), ())
    }
}

impl Command for BanNode {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Some(node) = registry.node(&self.id) else {
            return Decision::refused("node.ban", json!({ "node": self.id }), unknown(&self.id));
        };
        if node.state == NodeState::Banned {
            return Decision::unchanged(());
        }
        let banned = Node { state: NodeState::Banned, ..Node::clone(node) };
        let mut changes = vec![registry.put_change(banned)];
        let token = well_known::joined_node_name(&self.id).filter(|name| registry.token(name).is_some());
        changes.extend(token.map(|name| Change::Delete(Key::Token(name))));
        let (turned, tasks) = lost(registry, [&self.id], moment).done();
        changes.extend(turned);
        Decision::done("node.ban", json!({ "node": self.id, "tasks": tasks }), changes, ())
    }
}

impl Command for PurgeNodes {
    /// The IDs of the nodes that are forgotten.
    type Answer = Vec<SpiffeId>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let has_ended = |node: &&crate::objects::Versioned<Node>| {
            node.expires_at < self.ended_before && node.state != NodeState::Banned
        };
        let purged: Vec<&Node> = registry.nodes().filter(has_ended).map(|node| &*node.value).collect();
        let ids: Vec<SpiffeId> = purged.iter().map(|node| node.id.clone()).collect();
        if ids.is_empty() {
            return nothing(ids);
        }
        let (turned, tasks) = lost(registry, &ids, moment).done();
        let forgotten = purged.into_iter().flat_map(|node| forgotten(registry, node));
        let changes = forgotten.chain(turned).collect();
        let facts = json!({ "ended_before": self.ended_before, "nodes": ids, "tasks": tasks });
        recorded("node.purge", facts, changes, ids)
    }
}

/// Removes a node and the token it came with. A token that nobody has used yet stays: it was made
/// for the node's return. The second name that its token gave it goes too: whoever joins in its place
/// has what that node is given, not what this one was called.
fn forgotten(registry: &Registry, node: &Node) -> Vec<Change> {
    let is_itself = well_known::itself(&node.id);
    let names = registry.children(&node.id).filter(|entry| entry.selectors == is_itself);
    let names = names.map(|entry| Change::Delete(Key::Entry(entry.id.clone())));
    let token = well_known::joined_node_name(&node.id).and_then(|name| registry.token(&name));
    let used = token.filter(|token| token.state != TokenState::Fresh);
    let token = used.map(|token| Change::Delete(Key::Token(token.node.clone())));
    [Change::Delete(Key::Node(node.id.clone()))].into_iter().chain(token).chain(names).collect()
}

/// Ends the tasks that these nodes hold: nobody who counts vouches for them any more.
pub(super) fn lost<'a, 'b>(
    registry: &'a Registry,
    nodes: impl IntoIterator<Item = &'b SpiffeId>,
    moment: &Moment,
) -> Turns<'a> {
    let mut turns = Turns::new(registry, moment.now);
    for node in nodes {
        turns.end_held_by(&Holder::Node(node.clone()), Reason::NodeLost);
    }
    turns
}

fn unknown(id: &SpiffeId) -> Refusal {
    Refusal::NotFound(format!("there is no node {id}; see: writ node list"))
}

fn nothing<A>(answer: A) -> Decision<A> {
    Decision { proposal: Proposal::default(), answer }
}

fn recorded<A>(kind: &'static str, facts: serde_json::Value, changes: Vec<Change>, answer: A) -> Decision<A> {
    let record = Some(Record { kind, outcome: Ok(()), facts });
    Decision { proposal: Proposal { changes, record }, answer }
}
