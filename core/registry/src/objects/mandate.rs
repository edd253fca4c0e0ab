//! Mandates: approved, versioned, signed templates of a piece of work.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::json;
use spiffe::{SpiffeId, Timestamp, TrustDomain, json::NotCanonical};

use super::{Actor, Budget, Sha256, TenantName, checked_text};
use crate::scope::{
    Confidentiality, Egress, Environment, Isolation, ParamName, Params, Purpose, Scalar, Scope, Tier,
};

checked_text! {
    /// A mandate's name.
    MandateName,
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    "is not the name of a mandate: 1 to 64 letters, digits, dots, dashes and underscores"
}

/// A mandate: what is approved, and what waits for that.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mandate {
    /// Its name.
    pub name: MandateName,
    /// Its actor's tenant.
    pub tenant: TenantName,
    /// The version under which tasks begin, if any is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Approved>,
    /// A later version that nobody has approved yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Draft>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What an actor can do with nobody asking: standing privilege.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reach {
    /// Under which mandate.
    pub mandate: MandateName,
    /// And which version of it.
    pub version: u64,
    /// Tools and their arguments; a parameter may have any value that the mandate allows.
    pub scope: Scope,
    /// Data of no higher confidentiality.
    pub data_max: Confidentiality,
    /// How much it risks.
    pub tier: Tier,
}

impl Mandate {
    /// What this actor can do under it with nobody asking, if it may begin it by itself.
    pub fn standing_reach(&self, actor: &Actor) -> Option<Reach> {
        let approved = self.approved.as_ref()?;
        let terms = &approved.terms;
        if terms.actor != actor.id || !terms.begin.itself {
            return None;
        }
        let scope = actor.ceiling.scope.intersect(&terms.scope).unwrap_or_else(|_| terms.scope.clone());
        let data_max = actor.ceiling.data_max.min(terms.data_max);
        let (mandate, version, tier) = (self.name.clone(), approved.version, terms.tier);
        (!scope.is_empty()).then_some(Reach { mandate, version, scope, data_max, tier })
    }

    /// Whether it is about this actor, or would be once it is approved.
    pub fn is_of(&self, actor: &SpiffeId) -> bool {
        let approved = self.approved.as_ref().map(|approved| &approved.terms);
        let drafted = self.draft.as_ref().map(|draft| &draft.terms);
        approved.into_iter().chain(drafted).any(|terms| terms.actor == *actor)
    }
}

/// Terms that wait for approval.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// One more than the version before.
    pub version: u64,
    /// What is asked for.
    pub terms: Terms,
}

/// Terms under which tasks begin.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// Their version.
    pub version: u64,
    /// What was approved.
    pub terms: Terms,
    /// SHA-256 of the canonical JSON of name, version and terms: what was signed.
    pub sha256: Sha256,
    /// By the server's pin key over [`approval`], ECDSA P-256 with SHA-256 (ASN.1), base64.
    pub signature: String,
    /// Who approved.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Only one person stands behind it, whatever its tier: approvers' own keys do not exist yet.
    pub one_person: bool,
}

/// What a piece of work may be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Whose work it is.
    pub actor: SpiffeId,
    /// What it is for, as policies read it.
    pub purpose: Purpose,
    /// Who may begin it.
    pub begin: Beginners,
    /// Tools and their arguments.
    pub scope: Scope,
    /// Data of no higher confidentiality.
    #[serde(default)]
    pub data_max: Confidentiality,
    /// On nodes of these environments.
    pub environments: BTreeSet<Environment>,
    /// What whoever begins it says, and of which kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<ParamName, ParamKind>,
    /// The longest life of a task, in seconds.
    pub ttl: u32,
    /// So many tasks may stand below one another under one of these.
    #[serde(default)]
    pub max_depth: u8,
    /// What a task may spend; what is left out is its tier's.
    #[serde(default)]
    pub budgets: Budgets,
    /// How much it risks at least.
    pub tier: Tier,
    /// The least that its processes must be told apart by; what is left out is its tier's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Where its processes may send to at most; what is left out is its tier's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// Whether its processes get the task's key, instead of the agent keeping it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub export_key: bool,
}

/// Who may begin a task.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Beginners {
    /// The actor itself, with nobody asking: standing privilege, so of tier 0 or 1.
    #[serde(default)]
    pub itself: bool,
    /// Registered workloads, such as a scheduler.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub workloads: BTreeSet<SpiffeId>,
    /// Tasks of these actors, as their children.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub parents: BTreeSet<SpiffeId>,
}

/// What a parameter may be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ParamKind {
    /// A text of at most so many bytes, without control characters.
    Text {
        /// The most bytes.
        max_bytes: u32,
    },
    /// A whole number.
    Int {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// True or false.
    Bool,
    /// One of these.
    OneOf(Vec<Scalar>),
}

/// What a task may spend. `None` is the tier's own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Actions that are permitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<u32>,
    /// Denials; one more, and the task is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denials: Option<u32>,
    /// Children, at any time and over its whole life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<u32>,
}

/// Parameters that are not as the mandate says.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParamError {
    /// One that the mandate does not have.
    #[error("the mandate has no parameter {0}")]
    Unknown(ParamName),
    /// One is missing.
    #[error("the parameter {0} is missing")]
    Missing(ParamName),
    /// One is of another kind, or out of bounds.
    #[error("the parameter {0} is not what the mandate allows")]
    Value(ParamName),
}

/// What an approval signs: these terms, under this name and version, in this trust domain.
pub fn approval(trust_domain: &TrustDomain, statement: &[u8]) -> Vec<u8> {
    let parts = [b"writ mandate v1", trust_domain.as_str().as_bytes(), statement];
    parts.join(&0)
}

impl Terms {
    /// What is approved of them, as bytes: the canonical JSON (RFC 8785) of name, version and terms.
    pub fn statement(&self, name: &MandateName, version: u64) -> Result<Vec<u8>, NotCanonical> {
        spiffe::json::canonical(&json!({ "name": name, "version": version, "terms": self }))
    }

    /// Whether these are all parameters, each as it may be.
    pub fn check(&self, params: &Params) -> Result<(), ParamError> {
        if let Some(name) = params.keys().find(|name| !self.parameters.contains_key(*name)) {
            return Err(ParamError::Unknown(name.clone()));
        }
        for (name, kind) in &self.parameters {
            let value = params.get(name).ok_or_else(|| ParamError::Missing(name.clone()))?;
            if !kind.allows(value) {
                return Err(ParamError::Value(name.clone()));
            }
        }
        Ok(())
    }
}

impl Budgets {
    /// Every number decided: what is left out is the tier's.
    pub fn of_tier(&self, tier: Tier) -> Budget {
        let (actions, denials, children) = match tier {
            Tier::T0 => (10_000, 50, 100),
            Tier::T1 => (1_000, 20, 20),
            Tier::T2 => (100, 10, 5),
            Tier::T3 => (10, 5, 0),
        };
        Budget {
            actions: self.actions.unwrap_or(actions),
            denials: self.denials.unwrap_or(denials),
            children: self.children.unwrap_or(children),
        }
    }
}

impl ParamKind {
    /// Whether a value is of this kind.
    pub fn allows(&self, value: &Scalar) -> bool {
        match (self, value) {
            (Self::Text { max_bytes }, Scalar::Text(text)) => {
                text.len() <= *max_bytes as usize && !text.chars().any(char::is_control)
            }
            (Self::Int { min, max }, Scalar::Int(number)) => (min..=max).contains(&number),
            (Self::Bool, Scalar::Bool(_)) => true,
            (Self::OneOf(these), value) => these.contains(value),
            _ => false,
        }
    }
}
