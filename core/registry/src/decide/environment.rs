//! Where a node stands.

use serde_json::json;
use spiffe::SpiffeId;

use super::{Command, Decision, Moment, Refusal, task::Turns};
use crate::{
    index::Holder,
    objects::{Node, Reason},
    registry::Registry,
    scope::Environment,
};

/// Says where a node stands. Tasks do not move: those that it holds end.
#[derive(Clone, Debug)]
pub struct SetEnvironment {
    /// The node's ID.
    pub node: SpiffeId,
    /// Where it stands.
    pub environment: Environment,
}

impl Command for SetEnvironment {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let facts = json!({ "node": self.node, "environment": self.environment });
        let Some(node) = registry.node(&self.node) else {
            let why = format!("there is no node {}; see: writ node list", self.node);
            return Decision::refused("node.environment", facts, Refusal::NotFound(why));
        };
        if node.stands_in() == self.environment {
            return Decision::unchanged(());
        }
        let mut turns = Turns::new(registry, moment.now);
        turns.end_held_by(&Holder::Node(self.node), Reason::EnvironmentChanged);
        let (mut changes, tasks) = turns.done();
        let facts = json!({ "node": node.id, "environment": self.environment, "was": node.stands_in(), "tasks": tasks });
        let environment = Some(self.environment);
        changes.insert(0, registry.put_change(Node { environment, ..Node::clone(node) }));
        Decision::done("node.environment", facts, changes, ())
    }
}
