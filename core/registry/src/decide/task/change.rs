//! What a task's home says became of it. It may take away, and never give back.

use serde_json::json;
use spiffe::{SpiffeId, Timestamp};

use super::Turns;
use crate::{
    decide::{Command, Decision, Moment, Proposal, Refusal},
    objects::{Reason, Task, TaskId, TaskState},
    record::Record,
    registry::Registry,
};

/// A node tells of its tasks. Each change succeeds or fails by itself, in order.
#[derive(Clone, Debug)]
pub struct ChangeTasks {
    /// The node, as it authenticated.
    pub node: SpiffeId,
    /// What happened, the oldest first.
    pub changes: Vec<HomeChange>,
}

/// One change that the home made.
#[derive(Clone, Debug)]
pub struct HomeChange {
    /// Which task.
    pub task: TaskId,
    /// What became of it.
    pub to: To,
    /// Since when.
    pub at: Timestamp,
}

/// What a home makes of a task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum To {
    /// It waits.
    Suspended(Reason),
    /// It is over.
    Ended(Reason),
    /// It is over, and nothing of it is open.
    Closed,
}

impl Command for ChangeTasks {
    /// For each change whether it is so now.
    type Answer = Vec<Result<(), Refusal>>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let mut turns = Turns::new(registry, moment.now);
        let answers =
            self.changes.iter().map(|change| one(&mut turns, &self.node, change, moment.now)).collect();
        let (changes, tasks) = turns.done();
        // What is refused, or was so already, is the door's to count: the log must not grow by it.
        if changes.is_empty() {
            return Decision { proposal: Proposal::default(), answer: answers };
        }
        let facts = json!({ "home": self.node, "tasks": tasks });
        let record = Some(Record { kind: "task.change", outcome: Ok(()), facts });
        Decision { proposal: Proposal { changes, record }, answer: answers }
    }
}

fn one(turns: &mut Turns<'_>, node: &SpiffeId, change: &HomeChange, now: Timestamp) -> Result<(), Refusal> {
    let HomeChange { task: id, to, at } = change;
    let here = |task: &&Task| task.home == *node;
    let Some(task) = turns.task(id).filter(here) else {
        return Err(Refusal::NotFound(format!("there is no task {id} on this node")));
    };
    let at = (*at).clamp(task.began_at, now.max(task.began_at));
    let is_so = match to {
        To::Suspended(_) => task.state != TaskState::Active,
        To::Ended(_) => task.is_ended(),
        To::Closed => false,
    };
    match to {
        // Whoever made it so has said why.
        _ if is_so => Ok(()),
        To::Suspended(reason) | To::Ended(reason) if !is_seen_at_home(*reason) => {
            Err(Refusal::Invalid(format!("{} is not for a node to say", reason.as_str())))
        }
        To::Suspended(reason) => {
            turns.suspend(id, *reason, at);
            Ok(())
        }
        To::Ended(reason) => {
            turns.end_at(id, *reason, at);
            Ok(())
        }
        To::Closed => match task.state {
            TaskState::Ended { .. } => {
                turns.close(id);
                Ok(())
            }
            TaskState::Active | TaskState::Suspended { .. } => {
                Err(Refusal::Precondition(format!("the task {id} is not over")))
            }
        },
    }
}

/// Whether a home can know this by itself. What an administrator does is said by the administrator.
fn is_seen_at_home(reason: Reason) -> bool {
    match reason {
        Reason::Done
        | Reason::Ttl
        | Reason::DomainDead
        | Reason::Changed
        | Reason::MeasurementChanged
        | Reason::EnvironmentChanged
        | Reason::NodeLost
        | Reason::Ancestor
        | Reason::Signal
        | Reason::Probing
        | Reason::AgentRestarted => true,
        Reason::MandateWithdrawn
        | Reason::ActorDisabled
        | Reason::ReviewOverdue
        | Reason::TenantDisabled
        | Reason::Administrator => false,
    }
}
