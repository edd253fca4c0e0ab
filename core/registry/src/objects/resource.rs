//! Resources: what calls go to, with what its owner says of each tool.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use spiffe::{SpiffeId, Timestamp};

use super::{Declassification, Sha256, TenantName};
use crate::scope::{ArgName, Clearance, Effect, Label, ResourceName, Tier, ToolName};

/// An MCP server, a destination or a store.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Its name, the first part of its tools' names.
    pub name: ResourceName,
    /// Its owner.
    pub tenant: TenantName,
    /// Who guards it: the SPIFFE IDs of the enforcement points that may ask about it, and nobody else.
    pub enforcement_points: BTreeSet<SpiffeId>,
    /// What everything has that is read from it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub label: Label,
    /// What may be written to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clearance: Clearance,
    /// Whether it keeps what is written to it, so that its label rises with each write.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stateful: bool,
    /// Its tools by their own names; one that is not here cannot be called.
    pub tools: BTreeMap<String, Tool>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What an owner says of one tool.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// What calling it does, at most.
    pub effect: Effect,
    /// What its results have, besides the resource's label.
    #[serde(default, skip_serializing_if = "is_default")]
    pub label: Label,
    /// What may be told to it, where that is not the resource's clearance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clearance: Option<Clearance>,
    /// The arguments that decide where the effect goes: recipient, path, amount, account.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub control_args: BTreeSet<ArgName>,
    /// SHA-256 of the canonical JSON of its definition (name, description, schemas) as it was approved; where
    /// this is left out, whatever the upstream shows is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition_sha256: Option<Sha256>,
    /// What it takes off the labels of data that passes through it; only with a `definition_sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declassifies: Option<Declassification>,
    /// How much it risks, where that is not its effect's tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
}

impl Resource {
    /// One of its tools.
    pub fn tool(&self, name: &ToolName) -> Option<&Tool> {
        if name.resource() == self.name { self.tools.get(name.tool()) } else { None }
    }

    /// All labels that it gives.
    pub fn labels(&self) -> impl Iterator<Item = &Label> {
        self.tools.values().map(|tool| &tool.label).chain([&self.label])
    }
}

impl Tool {
    /// How much a call of it risks.
    pub fn tier(&self) -> Tier {
        self.tier.unwrap_or_else(|| self.effect.tier())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
