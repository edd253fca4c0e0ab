//! Labels of data: how sensitive, of which categories, from which untrusted sources. They only rise.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Category, Source};

/// How sensitive data is, from 0 (public) to 3 (secret).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Confidentiality(u8);

/// What is known of data, or of who has read it: a point of the lattice of authorization-model labels.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// How sensitive it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub confidentiality: Confidentiality,
    /// Of which categories it is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<Category>,
    /// Which untrusted sources went into it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sources: BTreeSet<Source>,
}

/// What a destination may be told.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Clearance {
    /// Nothing more sensitive.
    #[serde(default, skip_serializing_if = "is_default")]
    pub confidentiality: Confidentiality,
    /// Nothing of another category.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<Category>,
}

/// A number outside 0 to 3.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is not a confidentiality: 0, 1, 2 or 3")]
pub struct ConfidentialityError(u8);

impl Confidentiality {
    /// The most sensitive.
    pub const MAX: Self = Self(3);
}

impl Label {
    /// The least label that is at least as high as both.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self {
            confidentiality: self.confidentiality.max(other.confidentiality),
            categories: self.categories.union(&other.categories).cloned().collect(),
            sources: self.sources.union(&other.sources).cloned().collect(),
        }
    }

    /// Whether this is at most `other`: joining it in would change nothing.
    pub fn is_within(&self, other: &Self) -> bool {
        self.confidentiality <= other.confidentiality
            && self.categories.is_subset(&other.categories)
            && self.sources.is_subset(&other.sources)
    }

    /// Whether data of this label may go where `clearance` is asked for; sources do not matter for that.
    pub fn may_flow_to(&self, clearance: &Clearance) -> bool {
        self.confidentiality <= clearance.confidentiality && self.categories.is_subset(&clearance.categories)
    }

    /// Whether something untrusted went into it.
    pub fn is_tainted(&self) -> bool {
        !self.sources.is_empty()
    }
}

impl TryFrom<u8> for Confidentiality {
    type Error = ConfidentialityError;
    fn try_from(level: u8) -> Result<Self, ConfidentialityError> {
        if level <= 3 { Ok(Self(level)) } else { Err(ConfidentialityError(level)) }
    }
}

impl From<Confidentiality> for u8 {
    fn from(confidentiality: Confidentiality) -> Self {
        confidentiality.0
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
