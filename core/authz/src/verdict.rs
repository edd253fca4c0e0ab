//! What was decided, with everything that its record says.

use std::sync::Arc;

use registry::{
    objects::{Declassification, Sha256, TaskId, TenantName},
    scope::{Effect, Label, ResourceName, Tier, ToolName},
};
use serde::Serialize;
use spiffe::SpiffeId;

use crate::{
    call::ToolCall,
    chain::{Chain, Epoch},
    denial::{Code, Denial},
    judge::{About, Granted, Situation},
    world::World,
};

/// One decision. It is worth something once it is durable: see [`crate::permit`].
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The root task.
    pub chain: TaskId,
    /// Whose call it is.
    pub task: TaskId,
    /// The verdict's place among those of the task, from 1; 0 where there is no such task.
    pub seq: u64,
    /// The task's actor and its tenant.
    pub actor: Option<(SpiffeId, TenantName)>,
    /// Who asked.
    pub enforcement_point: SpiffeId,
    /// What was to be called.
    pub tool: ToolName,
    /// SHA-256 of the canonical arguments; a record keeps it under a key.
    pub arguments: Sha256,
    /// What the tool does; what is not known counts as the worst.
    pub effect: Effect,
    /// How much the action risks.
    pub tier: Tier,
    /// What the task had read.
    pub label: Label,
    /// What its result adds, before anything is found in it. Where the outcome of a permitted call is not known
    /// (a crash in between), it is joined into the task.
    pub result: Label,
    /// The policies that were in force ([`crate::policy::Policies::version`]).
    pub policy_version: String,
    /// The decision.
    pub decision: Decision,
    /// Tasks that were suspended by it: the agent was denied too often.
    pub suspended: Vec<TaskId>,
    /// Which state of the task it was made in.
    #[serde(skip)]
    pub(crate) epoch: Option<(Epoch, u64)>,
}

/// Yes or no.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may be done, once, now.
    Permit {
        /// The policies that permit it.
        policies: Vec<Arc<str>>,
        /// What is joined into the resource before the call is forwarded.
        #[serde(skip_serializing_if = "Option::is_none")]
        stores: Option<Stored>,
        /// What the tool takes off the data that passes through it. It must be on record before the decision is.
        #[serde(skip_serializing_if = "Option::is_none")]
        lowers: Option<Box<Lowered>>,
    },
    /// It may not.
    Deny(Denial),
}

/// A label that a write leaves in a resource.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Stored {
    /// Where.
    pub resource: ResourceName,
    /// What.
    pub label: Label,
}

/// What an owner's transformer takes off data: declassification. The task itself keeps its label.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Lowered {
    /// What is dropped: of what its owner lets it drop, what is there and the owner's alone.
    pub drop: Declassification,
    /// The transformer's definition, as it was approved and is.
    pub definition: Sha256,
    /// What passes through it: what its resource holds, and where it leaves something there, what the task has read.
    pub from: Label,
    /// What is left of that label.
    pub to: Label,
}

impl Verdict {
    /// The denial, if it is one.
    pub fn denial(&self) -> Option<&Denial> {
        match &self.decision {
            Decision::Deny(denial) => Some(denial),
            Decision::Permit { .. } => None,
        }
    }

    /// What it lowers, if it permits that.
    pub fn lowers(&self) -> Option<&Lowered> {
        match &self.decision {
            Decision::Permit { lowers, .. } => lowers.as_deref(),
            Decision::Deny(_) => None,
        }
    }

    /// The code of the denial, if it is one.
    pub fn code(&self) -> Option<Code> {
        self.denial().map(|denial| denial.code)
    }

    /// Whether it must be acknowledged by the server, too, before it is worth something.
    pub fn needs_acknowledgement(&self) -> bool {
        self.tier >= Tier::T2 && matches!(self.decision, Decision::Permit { .. })
    }

    pub(crate) fn of(
        chain: &mut Chain,
        task: &TaskId,
        world: &World,
        situation: &Situation<'_>,
        call: &ToolCall,
        about: About,
        decided: Result<Granted, Denial>,
    ) -> Self {
        let id = chain.id().clone();
        let member = chain.member_mut(task);
        let (mut seq, mut actor, mut epoch) = (0, None, None);
        if let Some(member) = member {
            seq = member.next_seq();
            actor = Some((member.grant().actor.clone(), member.grant().tenant.clone()));
            epoch = Some((member.epoch().clone(), member.epoch().now()));
        }
        let decision = match decided {
            Ok(Granted { policies, stores, lowers }) => Decision::Permit { policies, stores, lowers },
            Err(denial) => Decision::Deny(denial),
        };
        Self {
            chain: id,
            task: task.clone(),
            seq,
            actor,
            enforcement_point: situation.enforcement_point.clone(),
            tool: call.tool().clone(),
            arguments: call.arguments().digest(),
            effect: about.effect.unwrap_or(Effect::Pay),
            tier: about.tier.unwrap_or(Tier::T3),
            label: about.label,
            result: about.result,
            policy_version: world.policies().version(),
            decision,
            suspended: Vec::new(),
            epoch,
        }
    }
}
