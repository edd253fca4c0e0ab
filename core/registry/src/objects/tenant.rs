//! Tenants: owners of actors, mandates, resources and categories.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spiffe::Timestamp;

use super::checked_text;
use crate::scope::Category;

checked_text! {
    /// A tenant's name.
    TenantName,
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b)),
    "is not the name of a tenant: 1 to 64 lower-case letters, digits, dots, dashes and underscores"
}

/// An owner of actors, mandates, resources and records.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// The categories of data that its labels may name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<Category>,
    /// Its kill switch: why nothing of it may act, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
}
