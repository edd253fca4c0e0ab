//! Policies: Cedar texts in three layers. What they say is `core/authz`'s; the registry only keeps them.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use spiffe::Timestamp;

use super::{TenantName, TextError};
use crate::scope::Tier;

/// One file of policies.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its layer, its tenant and its name.
    pub id: PolicyId,
    /// Cedar.
    pub text: String,
    /// What it lowers, besides what it forbids; only the platform's may.
    #[serde(default, skip_serializing_if = "Lowers::is_nothing")]
    pub lowers: Lowers,
    /// When it was pushed last.
    pub pushed_at: Timestamp,
}

/// Tiers whose tasks need less than their tier asks for. It has a policy's name, so that whoever reads of a task
/// or a decision reads whose choice that was.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lowers {
    /// In these tiers a process is isolation enough.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub isolation: BTreeSet<Tier>,
    /// In these tiers the processes may send anywhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub egress: BTreeSet<Tier>,
}

impl Lowers {
    /// Whether everything stays as the tiers ask for.
    pub fn is_nothing(&self) -> bool {
        self.isolation.is_empty() && self.egress.is_empty()
    }
}

/// Which layer a policy belongs to. All of them are evaluated apart.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Layer {
    /// The platform's, which only forbids.
    Platform,
    /// A tenant's about its own actors; one of them must permit.
    Actor(TenantName),
    /// A tenant's about its own resources; one of them must permit.
    Resource(TenantName),
}

/// A policy's name: `platform/<name>`, `actor/<tenant>/<name>` or `resource/<tenant>/<name>`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyId {
    /// Its layer.
    pub layer: Layer,
    name: String,
}

impl PolicyId {
    /// The last part of the name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Layer {
    /// Whose it is; the platform's is nobody's.
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Platform => None,
            Self::Actor(tenant) | Self::Resource(tenant) => Some(tenant),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::Actor(tenant) => write!(f, "actor/{tenant}"),
            Self::Resource(tenant) => write!(f, "resource/{tenant}"),
        }
    }
}

impl FromStr for Layer {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = || TextError {
            text: text.to_owned(),
            says: "is not a layer: platform, actor/TENANT or resource/TENANT",
        };
        let tenant = |name: &str| name.parse().map_err(|_| wrong());
        match text.split_once('/') {
            None if text == "platform" => Ok(Self::Platform),
            Some(("actor", name)) => tenant(name).map(Self::Actor),
            Some(("resource", name)) => tenant(name).map(Self::Resource),
            _ => Err(wrong()),
        }
    }
}

impl FromStr for PolicyId {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = || TextError {
            text: text.to_owned(),
            says: "is not the name of a policy: platform/NAME, actor/TENANT/NAME or resource/TENANT/NAME",
        };
        let (layer, name) = text.rsplit_once('/').ok_or_else(wrong)?;
        let layer = layer.parse().map_err(|_| wrong())?;
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if is_name { Ok(Self { layer, name: name.to_owned() }) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for PolicyId {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl From<PolicyId> for String {
    fn from(id: PolicyId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.layer, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policys_name_says_its_layer_and_tenant() {
        for text in ["platform/base", "actor/acme/triage", "resource/acme/files.v2"] {
            assert_eq!(text.parse::<PolicyId>().unwrap().to_string(), text);
        }
        for text in ["base", "platform/acme/base", "actor/base", "team/acme/x", "actor/Ac me/x", "platform/"]
        {
            assert!(text.parse::<PolicyId>().is_err(), "{text}");
        }
    }
}
