//! Nodes that prove by something else than a join token who they are. They may do so again at any time:
//! with a new key a node gets a new certificate, and keeps its ID.

use std::collections::BTreeSet;

use serde_json::json;
use spiffe::{Selector, SpiffeId, Timestamp};

use crate::{
    decide::{Command, Decision, Moment, Proposal},
    objects::{Node, NodeState, Proof, Sha256},
    record::Record,
    registry::Registry,
};

/// A node that proved who it is gets a certificate.
#[derive(Clone, Debug)]
pub struct AdmitNode {
    /// Who it is, and by which proof.
    pub claim: Claim,
    /// What was proved about it besides.
    pub selectors: BTreeSet<Selector>,
    /// Serial number (hex) of the certificate that it gets.
    pub serial: String,
    /// When that certificate ends.
    pub not_after: Timestamp,
}

/// What a proof says, and for which key.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The node's ID.
    pub id: SpiffeId,
    /// The ID that the same proof would give in its other spelling, where it has one: whoever was
    /// admitted, or banned, under the one is not also the other.
    pub twin: Option<SpiffeId>,
    /// How it was proved, for example `x509pop`.
    pub attestor: &'static str,
    /// Digest and end of the proof, where it counts once.
    pub once: Option<(Sha256, Timestamp)>,
    /// SHA-256 of the public key (SubjectPublicKeyInfo) that the certificate is for.
    pub key_sha256: Sha256,
}

/// Why a node is not admitted though its proof is good. It may know: it is the one that the proof names.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAdmitted {
    /// An administrator banned it.
    #[error("this node is banned; an administrator can lift the ban with: writ node evict ID")]
    Banned,
    /// Two agents use this key.
    #[error("two agents use this node's key; attest with another key")]
    Fenced,
    /// Another agent has attested in its place. If both went on, each would take it from the other again
    /// and again.
    #[error(
        "another agent has attested as this node since, with the same proof; if this machine is the right one, \
             run on the server: writ node evict ID"
    )]
    Replaced,
    /// A node of this ID attested otherwise.
    #[error(
        "a node of this ID attested by other means; an administrator can remove it with: writ node evict ID"
    )]
    OfOthers,
    /// Something changed while it was admitted.
    #[error("another attestation with this proof is under way; try again")]
    Again,
    /// The proof has been used, with another key.
    #[error("this proof has been used with another key; attest with a new one")]
    Used,
}

impl Claim {
    /// The same claim of the node that [`Registry::admits`].
    #[must_use]
    pub fn of(self, id: &SpiffeId) -> Self {
        match self.twin {
            Some(twin) if twin == *id => Self { twin: Some(self.id), id: twin, ..self },
            twin => Self { twin, ..self },
        }
    }
}

impl Registry {
    /// The ID of the node that this proof and key admit now. The door asks before it signs; the command
    /// asks again.
    pub fn admits(&self, claim: &Claim) -> Result<SpiffeId, NotAdmitted> {
        // Of two spellings the one that came first is the node.
        let known = |id: &&SpiffeId| self.node(id).is_some();
        let id = claim.twin.as_ref().filter(known).unwrap_or(&claim.id);
        let is_banned = |id| self.node(id).is_some_and(|node| node.state == NodeState::Banned);
        if is_banned(&claim.id) || claim.twin.as_ref().is_some_and(is_banned) {
            return Err(NotAdmitted::Banned);
        }
        if let Some(node) = self.node(id) {
            match node.state {
                NodeState::Banned => return Err(NotAdmitted::Banned),
                NodeState::Fenced if node.has_key(&claim.key_sha256) => return Err(NotAdmitted::Fenced),
                NodeState::Fenced | NodeState::Restored | NodeState::Active | NodeState::Joining => {}
            }
            let is_replaced = node.replaced_keys.iter().any(|key| key.matches(&claim.key_sha256));
            if is_replaced && node.state == NodeState::Active {
                return Err(NotAdmitted::Replaced);
            }
            if node.attestor != claim.attestor {
                return Err(NotAdmitted::OfOthers);
            }
        }
        let used = claim.once.and_then(|(sha256, _)| self.proof(&sha256));
        match used.is_some_and(|used| !used.key_sha256.matches(&claim.key_sha256)) {
            true => Err(NotAdmitted::Used),
            false => Ok(id.clone()),
        }
    }
}

impl Command for AdmitNode {
    /// The node's ID.
    type Answer = Result<SpiffeId, NotAdmitted>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Self { claim, selectors, serial, not_after } = self;
        let id = match registry.admits(&claim) {
            Ok(id) if id == claim.id => id,
            // Its twin came in after the door had asked. Whoever tries again is that one.
            Ok(_) => return Decision { proposal: Proposal::default(), answer: Err(NotAdmitted::Again) },
            // The door counts it. Whoever is refused tries again and again, and the log must not grow by it.
            Err(refusal) => return Decision { proposal: Proposal::default(), answer: Err(refusal) },
        };
        let Claim { attestor, once, key_sha256, .. } = claim;
        let facts = json!({ "node": id, "attestor": attestor, "key_sha256": key_sha256, "serial": serial });
        let certified = Certified { attestor: attestor.to_owned(), selectors, key_sha256, serial, not_after };
        let current = registry.node(&id).map(|node| &*node.value);
        let mut changes = vec![registry.put_change(certified.node(current, id.clone(), moment.now))];
        // What one key does again with the same proof is no other use of it.
        let used = once.filter(|(sha256, _)| registry.proof(sha256).is_none());
        let used = used.map(|(sha256, until)| registry.put_change(Proof { sha256, key_sha256, until }));
        changes.extend(used);
        let record = Some(Record { kind: "node.attest", outcome: Ok(()), facts });
        Decision { proposal: Proposal { changes, record }, answer: Ok(id) }
    }
}

/// The certificate that a node gets when it attests.
pub(super) struct Certified {
    pub(super) attestor: String,
    pub(super) selectors: BTreeSet<Selector>,
    pub(super) key_sha256: Sha256,
    pub(super) serial: String,
    pub(super) not_after: Timestamp,
}

impl Certified {
    /// The node as it is with the new certificate. A node in good standing keeps the certificate it
    /// has until the new one is used first: a lost reply takes nothing from it.
    pub(super) fn node(self, current: Option<&Node>, id: SpiffeId, now: Timestamp) -> Node {
        match current {
            Some(node) if node.state == NodeState::Active => Node {
                selectors: self.selectors,
                next_serial: Some(self.serial),
                next_key_sha256: Some(self.key_sha256),
                expires_at: self.not_after,
                ..node.clone()
            },
            _ => Node {
                id,
                attestor: self.attestor,
                selectors: self.selectors,
                key_sha256: self.key_sha256,
                serial: self.serial,
                serial_since: None,
                next_serial: None,
                next_key_sha256: None,
                replaced_keys: Vec::new(),
                environment: current.and_then(|node| node.environment.clone()),
                expires_at: self.not_after,
                attested_at: current.map_or(now, |node| node.attested_at),
                state: NodeState::Joining,
            },
        }
    }
}
