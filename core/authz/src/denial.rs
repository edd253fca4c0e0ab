//! Denials: a stable code for the agent, and everything behind it for the operator.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a call is denied, as the agent is told: the rule, and nothing of what it was compared with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// What was sent is no message that every reader reads alike.
    Malformed,
    /// The caller has no task.
    NoTask,
    /// Whoever asks does not guard this resource.
    UnregisteredEnforcementPoint,
    /// The agent has not heard from the server for too long, or the server could not be asked.
    Stale,
    /// The task is over.
    TaskEnded,
    /// The task, or one above it, is suspended.
    TaskSuspended,
    /// The actor is disabled.
    ActorDisabled,
    /// The actor's review is overdue.
    ReviewOverdue,
    /// The tenant of the actor or of the resource is disabled.
    TenantDisabled,
    /// The caller is not in the task's isolation domain.
    NotAMember,
    /// The task's program is not what was measured when it began.
    MeasurementChanged,
    /// The node is not where the task began.
    EnvironmentChanged,
    /// The task's processes are less apart from others than it was granted for.
    IsolationWeakened,
    /// The task's processes can send to more places than it was granted for.
    EgressWidened,
    /// The resource has no such tool.
    UnknownTool,
    /// The tool is not in the task's scope.
    OutOfScope,
    /// The tool is, with other arguments.
    ArgumentOutOfScope,
    /// The result would be more confidential than the task may handle.
    DataMaxExceeded,
    /// The task, or one above it, has spent its actions.
    BudgetSpent,
    /// The upstream shows another definition of the tool than the one that was approved.
    ToolDefinitionChanged,
    /// The destination may not be told what the task has read.
    LabelExceedsClearance,
    /// After untrusted input, an argument that decides where the effect goes is the agent's own choice.
    UnboundArgumentAfterUntrustedInput,
    /// No policy permits it, or one forbids it.
    PolicyDenied,
    /// A policy could not be evaluated.
    PolicyError,
    /// The decision could not be made durable.
    Unrecorded,
    /// The permit was not spent in its second, or for another call.
    PermitExpired,
    /// Whoever decides cannot be reached.
    Unreachable,
}

/// A denial, as records and operators see it. Strangers and agents get a [`Refused`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Denial {
    /// The rule.
    pub code: Code,
    /// What it was compared with, and what would change it.
    pub explanation: String,
    /// The policies that decided.
    pub policies: Vec<Arc<str>>,
    /// Whether a person's approval could lift it.
    pub requestable: bool,
}

/// A denial, as the agent is told.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("denied: {code}")]
pub struct Refused {
    /// The rule.
    pub code: Code,
    /// Whether a person's approval could lift it.
    pub requestable: bool,
}

impl Denial {
    /// A denial by a rule that knows no policies.
    pub fn new(code: Code, explanation: impl Into<String>) -> Self {
        Self {
            code,
            explanation: explanation.into(),
            policies: Vec::new(),
            requestable: code.is_requestable(),
        }
    }

    /// What the agent is told.
    pub fn told(&self) -> Refused {
        Refused { code: self.code, requestable: self.requestable }
    }
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Malformed,
        Self::NoTask,
        Self::UnregisteredEnforcementPoint,
        Self::Stale,
        Self::TaskEnded,
        Self::TaskSuspended,
        Self::ActorDisabled,
        Self::ReviewOverdue,
        Self::TenantDisabled,
        Self::NotAMember,
        Self::MeasurementChanged,
        Self::EnvironmentChanged,
        Self::IsolationWeakened,
        Self::EgressWidened,
        Self::UnknownTool,
        Self::OutOfScope,
        Self::ArgumentOutOfScope,
        Self::DataMaxExceeded,
        Self::BudgetSpent,
        Self::ToolDefinitionChanged,
        Self::LabelExceedsClearance,
        Self::UnboundArgumentAfterUntrustedInput,
        Self::PolicyDenied,
        Self::PolicyError,
        Self::Unrecorded,
        Self::PermitExpired,
        Self::Unreachable,
    ];

    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NoTask => "no_task",
            Self::UnregisteredEnforcementPoint => "unregistered_enforcement_point",
            Self::Stale => "stale",
            Self::TaskEnded => "task_ended",
            Self::TaskSuspended => "task_suspended",
            Self::ActorDisabled => "actor_disabled",
            Self::ReviewOverdue => "review_overdue",
            Self::TenantDisabled => "tenant_disabled",
            Self::NotAMember => "not_a_member",
            Self::MeasurementChanged => "measurement_changed",
            Self::EnvironmentChanged => "environment_changed",
            Self::IsolationWeakened => "isolation_weakened",
            Self::EgressWidened => "egress_widened",
            Self::UnknownTool => "unknown_tool",
            Self::OutOfScope => "out_of_scope",
            Self::ArgumentOutOfScope => "argument_out_of_scope",
            Self::DataMaxExceeded => "data_max_exceeded",
            Self::BudgetSpent => "budget_spent",
            Self::ToolDefinitionChanged => "tool_definition_changed",
            Self::LabelExceedsClearance => "label_exceeds_clearance",
            Self::UnboundArgumentAfterUntrustedInput => "unbound_argument_after_untrusted_input",
            Self::PolicyDenied => "policy_denied",
            Self::PolicyError => "policy_error",
            Self::Unrecorded => "unrecorded",
            Self::PermitExpired => "permit_expired",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether a person's approval could lift it, whatever the policies say. Of a policy's denial, the
    /// policies decide.
    pub(crate) fn is_requestable(self) -> bool {
        self == Self::UnboundArgumentAfterUntrustedInput
    }

    /// Whether the agent itself brought it about: such denials are counted against its budget of them, so
    /// that trying variations ends. What time, node or policy authors brought about is not its doing.
    pub fn is_probing(self) -> bool {
        matches!(
            self,
            Self::UnknownTool
                | Self::OutOfScope
                | Self::ArgumentOutOfScope
                | Self::DataMaxExceeded
                | Self::LabelExceedsClearance
                | Self::UnboundArgumentAfterUntrustedInput
                | Self::PolicyDenied
                | Self::NotAMember
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_name_in_json_and_in_sentences() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn the_agent_learns_the_code_and_nothing_else() {
        let denial = Denial::new(Code::OutOfScope, "the scope of task X has no rule about payroll/read");
        assert_eq!(denial.told().to_string(), "denied: out_of_scope");
    }
}
