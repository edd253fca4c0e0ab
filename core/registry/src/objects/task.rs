//! Tasks: pieces of work under one grant of one mandate, each held by one isolation domain on its home node.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spiffe::{IdError, SpiffeId, Timestamp};

use super::{MandateName, PolicyId, Sha256, TenantName, checked_text};
use crate::scope::{Confidentiality, Egress, Environment, Isolation, Params, Purpose, Scope, Tier};

checked_text! {
    /// A task's name: a ULID.
    TaskId,
    |text| text.len() == 26 && text.as_bytes()[0] < b'8' && text.bytes().all(|b| DIGITS.contains(&b)),
    "is not the id of a task: a ULID of 26 characters"
}

/// Crockford's base 32.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl TaskId {
    /// When whoever chose it says that it was chosen: the first 48 bits of a ULID.
    pub fn chosen_at(&self) -> Timestamp {
        let digits = self.as_str().bytes().take(10);
        let value = |byte| DIGITS.iter().position(|digit| *digit == byte).unwrap_or(0) as i64;
        Timestamp::from_unix_millis(digits.fold(0, |millis, byte| millis << 5 | value(byte)))
    }
}

/// One piece of work, as the server granted it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// Whose work it is.
    pub actor: SpiffeId,
    /// The actor's tenant.
    pub tenant: TenantName,
    /// Under which mandate.
    pub mandate: MandateName,
    /// And which version of it.
    pub mandate_version: u64,
    /// The mandate's purpose.
    pub purpose: Purpose,
    /// What whoever began it said.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// The node that holds it.
    pub home: SpiffeId,
    /// Where that node stood when it began; a task does not move.
    pub environment: Environment,
    /// Who caused it.
    pub beginner: Beginner,
    /// The task above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// The task at the top: the name of the chain.
    pub root: TaskId,
    /// How many tasks are above it.
    pub depth: u8,
    /// So many tasks may stand below it, one under another.
    pub depth_left: u8,
    /// What it may call: ceiling, mandate, beginner and wish, all at once; parameters have their values.
    pub scope: Scope,
    /// Data of no higher confidentiality.
    pub data_max: Confidentiality,
    /// How much it risks at least.
    pub tier: Tier,
    /// How its processes are told apart.
    pub isolation: Isolation,
    /// Where its processes can send to.
    pub egress: Egress,
    /// What it may spend.
    pub budget: Budget,
    /// The platform's policies without which it would need more isolation, or less egress.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lowered_by: BTreeSet<PolicyId>,
    /// Whether its processes get its key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub export_key: bool,
    /// What its beginner said about it: an annotation, never a fact.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Digest of what was asked for, so that a repeated request is the same task and no other one is.
    pub asked_sha256: Sha256,
    /// So many children it has begun.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub children: u32,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// Whether it may act.
    pub state: TaskState,
}

/// Who caused a task.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Beginner {
    /// The actor itself.
    Itself,
    /// A registered workload.
    Workload(SpiffeId),
    /// The task above.
    Parent(TaskId),
}

/// What a task may spend, every number decided.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Actions that are permitted.
    pub actions: u32,
    /// Denials; one more, and the task is suspended.
    pub denials: u32,
    /// Children over its whole life.
    pub children: u32,
}

/// Whether a task may act. Nothing leaves `Ended`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum TaskState {
    /// It may.
    Active,
    /// It may wait or end.
    Suspended {
        /// Why.
        reason: Reason,
        /// Since when.
        at: Timestamp,
    },
    /// It is over.
    Ended {
        /// Why.
        reason: Reason,
        /// Since when.
        at: Timestamp,
        /// Whether every action has its outcome and every lease is dead.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        closed: bool,
    },
}

/// Why a task was suspended or ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It said so itself.
    Done,
    /// Its time was over.
    Ttl,
    /// Its last process ended.
    DomainDead,
    /// Its process executed another program, or changed its user.
    Changed,
    /// What was measured of it is different now.
    MeasurementChanged,
    /// Its node stands elsewhere now.
    EnvironmentChanged,
    /// Its mandate was withdrawn.
    MandateWithdrawn,
    /// Its actor was disabled.
    ActorDisabled,
    /// Its actor's review is overdue.
    ReviewOverdue,
    /// Its tenant was disabled.
    TenantDisabled,
    /// Its node was evicted or banned, or lost it.
    NodeLost,
    /// The task above it ended or was suspended.
    Ancestor,
    /// An administrator said so.
    Administrator,
    /// A signal from outside.
    Signal,
    /// It was denied more often than it may be.
    Probing,
    /// Its agent started anew and cannot find its processes again.
    AgentRestarted,
}

impl Task {
    /// Its own SPIFFE ID: its actor's, with the task below it.
    pub fn spiffe_id(&self) -> Result<SpiffeId, IdError> {
        format!("{}/task/{}", self.actor, self.id).parse()
    }

    /// Whether it may act at this moment.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.state == TaskState::Active && now < self.expires_at
    }

    /// Whether it is over, whatever the time.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, TaskState::Ended { .. })
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Reason {
    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Ttl => "ttl",
            Self::DomainDead => "domain_dead",
            Self::Changed => "changed",
            Self::MeasurementChanged => "measurement_changed",
            Self::EnvironmentChanged => "environment_changed",
            Self::MandateWithdrawn => "mandate_withdrawn",
            Self::ActorDisabled => "actor_disabled",
            Self::ReviewOverdue => "review_overdue",
            Self::TenantDisabled => "tenant_disabled",
            Self::NodeLost => "node_lost",
            Self::Ancestor => "ancestor",
            Self::Administrator => "administrator",
            Self::Signal => "signal",
            Self::Probing => "probing",
            Self::AgentRestarted => "agent_restarted",
        }
    }
}
