//! Actors: AI agents as accountable parties. An actor authorises nothing by itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spiffe::{SpiffeId, Timestamp};

use super::TenantName;
use crate::scope::{Autonomy, Confidentiality, Environment, Scope};

/// An AI agent as the accountable party (RFC 8693's word), with what it may reach at most.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Its SPIFFE ID, which entries give to its processes.
    pub id: SpiffeId,
    /// Whose it is.
    pub tenant: TenantName,
    /// Who answers for it.
    pub owner: String,
    /// What it is for, for people.
    pub purpose: String,
    /// How much it decides by itself.
    pub autonomy: Autonomy,
    /// What it may reach at most, whatever its mandates say.
    pub ceiling: Ceiling,
    /// Somebody looks at it again until then; afterwards it is suspended.
    pub review_at: Timestamp,
    /// Its kill switch: why it may not act, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<String>,
    /// Whether its review became overdue, so that its tasks were suspended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// Whether its plain SPIFFE ID is handed out as SPIRE does, also without a task. Named for what it is: an
    /// identity that outlives its tasks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_standing_identity: bool,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// The most that an actor may reach.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// Tools and their arguments.
    pub scope: Scope,
    /// Data of no higher confidentiality.
    #[serde(default)]
    pub data_max: Confidentiality,
    /// On nodes of these environments; nodes of none count as `default`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub environments: BTreeSet<Environment>,
}

impl Actor {
    /// Whether its plain ID is handed out only to processes with a live task, and then as the task's.
    pub fn is_task_only(&self) -> bool {
        !self.insecure_standing_identity
    }

    /// Why it may not begin anything now, if so.
    pub fn stands_still(&self, now: Timestamp) -> Option<String> {
        match &self.disabled {
            Some(why) => Some(format!("the actor {} is disabled: {why}", self.id)),
            None if self.review_at <= now => {
                Some(format!("the review of the actor {} is overdue since {}", self.id, self.review_at))
            }
            None => None,
        }
    }
}
