//! Join tokens: made, bound to one key, spent by the node's first authenticated call.

use std::{collections::BTreeSet, time::Duration};

use humantime::format_duration;
use serde_json::{Value, json};
use spiffe::{Selector, SpiffeId, Timestamp};

use crate::{
    commit::Change,
    decide::{Command, Decision, Moment, Refusal, admission::Certified},
    objects::{Key, Node, NodeName, NodeState, Sha256, Token, TokenState, well_known},
    registry::Registry,
};

/// Makes the join token of a node, in the place of any older one.
#[derive(Clone, Debug)]
pub struct CreateToken {
    /// The node that shall join.
    pub node: NodeName,
    /// SHA-256 of the secret, see [`crate::objects::JoinToken::mint`].
    pub secret_sha256: Sha256,
    /// How long the token counts.
    pub ttl: Duration,
}

/// Frees a bound token for another key. Whoever held the first key loses what it got with it.
#[derive(Clone, Debug)]
pub struct ResetToken {
    /// The token's node.
    pub node: NodeName,
}

/// A node joins with its token, which is bound to the node's key in the same commit.
#[derive(Clone, Debug)]
pub struct AttestNode {
    /// What the token names.
    pub node: NodeName,
    /// SHA-256 of the secret that came.
    pub secret_sha256: Sha256,
    /// SHA-256 of the public key (SubjectPublicKeyInfo) in the CSR that came.
    pub key_sha256: Sha256,
    /// What was proved about the node besides.
    pub selectors: BTreeSet<Selector>,
    /// Serial number (hex) of the certificate that it gets.
    pub serial: String,
    /// When that certificate ends.
    pub not_after: Timestamp,
}

/// The longest life of a token.
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

impl Registry {
    /// The ID of the node that this token and key admit now. The door asks before it signs; the
    /// command asks again. A stranger learns from a refusal nothing but what to do next; the audit
    /// log has the reason.
    pub fn admitted_by_token(
        &self,
        node: &NodeName,
        secret: &Sha256,
        key: &Sha256,
        now: Timestamp,
    ) -> Result<SpiffeId, Refusal> {
        self.admit(node, secret, key, now).map_err(|_| not_valid()).map(|_| self.joined(node))
    }

    fn admit(
        &self,
        node: &NodeName,
        secret: &Sha256,
        key: &Sha256,
        now: Timestamp,
    ) -> Result<&Token, &'static str> {
        let token = self.token(node).ok_or("there is no token of this node")?;
        if !token.secret_sha256.matches(secret) {
            return Err("the secret is wrong");
        }
        if token.expires_at <= now {
            return Err("the token has expired");
        }
        if let Some(node) = self.node(&self.joined(node)) {
            match node.state {
                NodeState::Banned => return Err("the node is banned"),
                NodeState::Fenced if node.has_key(key) => return Err("the node's key is in two places"),
                NodeState::Fenced | NodeState::Restored | NodeState::Active | NodeState::Joining => {}
            }
        }
        match &token.state {
            TokenState::Fresh => Ok(token),
            TokenState::Bound { key_sha256 } if key_sha256.matches(key) => Ok(token),
            TokenState::Bound { .. } => Err("the token is bound to another key"),
            TokenState::Spent { .. } => Err("the token is spent"),
        }
    }

    fn joined(&self, node: &NodeName) -> SpiffeId {
        well_known::joined_node(self.trust_domain(), node)
    }
}

impl Command for CreateToken {
    type Answer = Result<Token, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let facts = |expires_at: Option<Timestamp>| json!({ "node": self.node, "expires_at": expires_at });
        if self.ttl.is_zero() || self.ttl > MAX_TTL {
            let (ttl, most) = (format_duration(self.ttl), format_duration(MAX_TTL));
            let why = Refusal::Invalid(format!("a token cannot live {ttl}; choose a ttl of up to {most}"));
            return Decision::refused(CREATE, facts(None), why);
        }
        let id = registry.joined(&self.node);
        if registry.node(&id).is_some_and(|node| node.state == NodeState::Banned) {
            let why =
                format!("node {} is banned; lift the ban with: writ node evict {}", self.node, self.node);
            return Decision::refused(CREATE, facts(None), Refusal::Denied(why));
        }
        let expires_at = moment.now + self.ttl;
        let facts = facts(Some(expires_at));
        let Self { node, secret_sha256, .. } = self;
        let token = Token { node, secret_sha256, expires_at, state: TokenState::Fresh };
        Decision::done(CREATE, facts, vec![registry.put_change(token.clone())], token)
    }
}

impl Command for ResetToken {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let name = &self.node;
        let again = format!("make a new one with: writ token create --node {name}");
        let refuse = |why| Decision::refused(RESET, json!({ "node": name }), why);
        let Some(token) = registry.token(name) else {
            return refuse(Refusal::NotFound(format!("node {name} has no token; {again}")));
        };
        let key = match &token.state {
            _ if token.expires_at <= moment.now => {
                return refuse(Refusal::Precondition(format!(
                    "the token of node {name} has expired; {again}"
                )));
            }
            TokenState::Spent { .. } => {
                return refuse(Refusal::Precondition(format!("the token of node {name} is spent; {again}")));
            }
            TokenState::Fresh => return Decision::unchanged(()),
            TokenState::Bound { key_sha256 } => *key_sha256,
        };
        let mut changes =
            vec![registry.put_change(Token { state: TokenState::Fresh, ..Token::clone(token) })];
        changes
            .extend(registry.node(&registry.joined(name)).and_then(|node| without_key(registry, node, key)));
        Decision::done(RESET, json!({ "node": name, "key_sha256": key }), changes, ())
    }
}

/// Takes from a node what an unspent token gave to `key`: all of a node that has not called yet, or
/// the certificate that waits for its first use.
fn without_key(registry: &Registry, node: &Node, key: Sha256) -> Option<Change> {
    if node.state == NodeState::Joining && node.key_sha256 == key {
        return Some(Change::Delete(Key::Node(node.id.clone())));
    }
    (node.next_key_sha256 == Some(key))
        .then(|| registry.put_change(Node { next_serial: None, next_key_sha256: None, ..node.clone() }))
}

/// A node that attested, and gets its certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attested {
    /// Its ID.
    pub id: SpiffeId,
}

impl Command for AttestNode {
    type Answer = Result<Attested, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let facts = json!({ "node": self.node, "key_sha256": self.key_sha256, "serial": self.serial });
        match registry.admit(&self.node, &self.secret_sha256, &self.key_sha256, moment.now) {
            Err(reason) => refused_to_stranger(facts, reason),
            Ok(token) => {
                let id = registry.joined(&self.node);
                let state = TokenState::Bound { key_sha256: self.key_sha256 };
                let Self { selectors, key_sha256, serial, not_after, .. } = self;
                let node =
                    Certified { attestor: ATTESTOR.to_owned(), selectors, key_sha256, serial, not_after }
                        .node(registry.node(&id).map(|node| &*node.value), id.clone(), moment.now);
                let changes =
                    vec![registry.put_change(Token { state, ..token.clone() }), registry.put_change(node)];
                Decision::done(ATTEST, facts, changes, Attested { id })
            }
        }
    }
}

/// The stranger and the audit log are told different things.
fn refused_to_stranger<T>(facts: Value, reason: &str) -> Decision<Result<T, Refusal>> {
    let mut decision = Decision::refused(ATTEST, facts, not_valid());
    if let Some(record) = &mut decision.proposal.record {
        record.outcome = Err(reason.to_owned());
    }
    decision
}

fn not_valid() -> Refusal {
    let why =
        "this join token does not count here; an administrator makes one with: writ token create --node NAME";
    Refusal::Denied(why.to_owned())
}

const ATTESTOR: &str = "join_token";
const CREATE: &str = "token.create";
const RESET: &str = "token.reset";
const ATTEST: &str = "node.attest";
