//! Backups: one is made, or one is what the server goes on from.

use serde::Serialize;
use serde_json::json;
use spiffe::{Timestamp, bundle};

use crate::{
    commit::Change,
    decide::{Command, Decision, Moment, Proposal, Refusal, task::Turns},
    objects::{Bundle, Key, Node, NodeState, Reason, TokenState},
    record::Record,
    registry::Registry,
};

/// Records that a backup is made; it is in the backup itself.
#[derive(Clone, Debug)]
pub struct RecordBackup {
    /// Who can open it, for the audit log.
    pub sealed_for: Vec<String>,
}

/// The first step of a log that goes on from an older state of another one. What ended in between is
/// not known here, so nothing counts that might have: tokens are void, tasks are over, and no certificate of a node
/// counts until the node has proved its key.
#[derive(Clone, Debug)]
pub struct BeginAnew {
    /// Forget all nodes but the banned ones: each machine must join with a new token.
    pub evict_nodes: bool,
}

/// What [`BeginAnew`] did.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Begun {
    /// Tokens that had not been spent, and are void now.
    pub tokens_void: usize,
    /// Nodes that must prove their key.
    pub nodes_to_return: usize,
    /// Nodes that are forgotten.
    pub nodes_evicted: usize,
    /// Tasks that were under way, and are over now.
    pub tasks_ended: usize,
}

impl Command for RecordBackup {
    type Answer = ();
    fn decide(self, _: &Registry, _: &Moment) -> Decision<()> {
        let facts = json!({ "sealed_for": self.sealed_for });
        let record = Record { kind: "backup.create", outcome: Ok(()), facts };
        Decision { proposal: Proposal { changes: Vec::new(), record: Some(record) }, answer: () }
    }
}

impl Command for BeginAnew {
    type Answer = Result<Begun, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let mut begun = Begun::default();
        let mut changes = Vec::new();
        for token in registry.tokens().filter(|token| !matches!(token.state, TokenState::Spent { .. })) {
            begun.tokens_void += 1;
            changes.push(Change::Delete(Key::Token(token.node.clone())));
        }
        for node in registry.nodes() {
            match node.state {
                NodeState::Banned => {}
                _ if self.evict_nodes => {
                    begun.nodes_evicted += 1;
                    changes.push(Change::Delete(Key::Node(node.id.clone())));
                }
                NodeState::Fenced => {}
                NodeState::Joining | NodeState::Active | NodeState::Restored => {
                    begun.nodes_to_return += 1;
                    changes
                        .push(registry.put_change(Node { state: NodeState::Restored, ..Node::clone(node) }));
                }
            }
        }
        let mut turns = Turns::new(registry, moment.now);
        registry.tasks().for_each(|task| turns.end(&task.id, Reason::NodeLost));
        let (turned, _) = turns.done();
        begun.tasks_ended = turned.len();
        changes.extend(turned);
        if let Some(bundle) = registry.bundle(registry.trust_domain()) {
            match newer(bundle, moment.now) {
                Ok(bundle) => changes.push(registry.put_change(bundle)),
                Err(error) => {
                    let why = Refusal::Invalid(format!("the trust bundle cannot be renewed: {error}"));
                    return Decision::refused(BEGIN, json!({}), why);
                }
            }
        }
        let facts = json!({ "from_log": registry.log(), "from_revision": registry.revision(), "did": begun });
        Decision::done(BEGIN, facts, changes, begun)
    }
}

const BEGIN: &str = "log.begin_anew";

/// The bundle under a sequence number that none in the lost part of the log can have had. Numbers count
/// changes, of which there is less than one a second; so the seconds of the clock are always ahead.
fn newer(bundle: &Bundle, now: Timestamp) -> Result<Bundle, bundle::BundleError> {
    let counted = bundle.authorities().sequence.unwrap_or(0) + 1;
    bundle.with_sequence(counted.max(u64::try_from(now.unix_seconds()).unwrap_or(0)))
}
