//! Entries: selectors → SPIFFE ID, with SPIRE's fields and their meaning.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spiffe::{Selector, SpiffeId, Timestamp, TrustDomain};

use super::checked_text;

checked_text! {
    /// An entry's id: a UUID where Writ makes it, or what the caller chose (SPIRE's rule: at most 255 of `[A-Za-z0-9-._]`).
    EntryId,
    |text| (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    "is not an entry id: 1 to 255 letters, digits, dots, dashes and underscores"
}

/// Who may be what: a process with all `selectors`, on a node that answers to `parent_id`, is `spiffe_id`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The entry's own name.
    pub id: EntryId,
    /// The identity that is given.
    pub spiffe_id: SpiffeId,
    /// A node, a node alias, `spiffe://TD/spire/server`, or another entry's SPIFFE ID.
    pub parent_id: SpiffeId,
    /// All of them must hold.
    pub selectors: BTreeSet<Selector>,
    /// Seconds that an X509-SVID lives; 0 means the server's default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub x509_svid_ttl: u32,
    /// Seconds that a JWT-SVID lives; 0 means the server's default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jwt_svid_ttl: u32,
    /// Trust domains whose bundles the workload receives too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub federates_with: BTreeSet<TrustDomain>,
    /// The SVID may call the server's admin API.
    #[serde(default, skip_serializing_if = "is_default")]
    pub admin: bool,
    /// The SVID may ask for an intermediate CA.
    #[serde(default, skip_serializing_if = "is_default")]
    pub downstream: bool,
    /// When the entry stops counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// DNS names of the X509-SVID, the first one also its common name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// Kept by an SVID store instead of being served to processes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub store_svid: bool,
    /// Tells the workload which of several identities this one is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The agent makes no SVID before one is asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disable_x509_svid_prefetch: bool,
    /// JWT-SVIDs carry a `jti`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jwt_svid_include_jti: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What an update changes of an entry: the fields that are `Some`, and no other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EntryPatch {
    /// [`Entry::spiffe_id`]
    pub spiffe_id: Option<SpiffeId>,
    /// [`Entry::parent_id`]
    pub parent_id: Option<SpiffeId>,
    /// [`Entry::selectors`]
    pub selectors: Option<BTreeSet<Selector>>,
    /// [`Entry::x509_svid_ttl`]
    pub x509_svid_ttl: Option<u32>,
    /// [`Entry::jwt_svid_ttl`]
    pub jwt_svid_ttl: Option<u32>,
    /// [`Entry::federates_with`]
    pub federates_with: Option<BTreeSet<TrustDomain>>,
    /// [`Entry::admin`]
    pub admin: Option<bool>,
    /// [`Entry::downstream`]
    pub downstream: Option<bool>,
    /// [`Entry::expires_at`]; `Some(None)` means that it ends no more.
    pub expires_at: Option<Option<Timestamp>>,
    /// [`Entry::dns_names`]
    pub dns_names: Option<Vec<String>>,
    /// [`Entry::store_svid`]
    pub store_svid: Option<bool>,
    /// [`Entry::hint`]
    pub hint: Option<String>,
    /// [`Entry::disable_x509_svid_prefetch`]
    pub disable_x509_svid_prefetch: Option<bool>,
    /// [`Entry::jwt_svid_include_jti`]
    pub jwt_svid_include_jti: Option<bool>,
}

impl EntryPatch {
    /// Sets every field to what `entry` has; its id and age are not fields to set.
    pub fn whole(entry: Entry) -> Self {
        Self {
            spiffe_id: Some(entry.spiffe_id),
            parent_id: Some(entry.parent_id),
            selectors: Some(entry.selectors),
            x509_svid_ttl: Some(entry.x509_svid_ttl),
            jwt_svid_ttl: Some(entry.jwt_svid_ttl),
            federates_with: Some(entry.federates_with),
            admin: Some(entry.admin),
            downstream: Some(entry.downstream),
            expires_at: Some(entry.expires_at),
            dns_names: Some(entry.dns_names),
            store_svid: Some(entry.store_svid),
            hint: Some(entry.hint),
            disable_x509_svid_prefetch: Some(entry.disable_x509_svid_prefetch),
            jwt_svid_include_jti: Some(entry.jwt_svid_include_jti),
        }
    }

    /// `entry` as it is after this update.
    #[must_use]
    pub fn applied_to(self, entry: &Entry) -> Entry {
        let old = entry.clone();
        Entry {
            id: old.id,
            spiffe_id: self.spiffe_id.unwrap_or(old.spiffe_id),
            parent_id: self.parent_id.unwrap_or(old.parent_id),
            selectors: self.selectors.unwrap_or(old.selectors),
            x509_svid_ttl: self.x509_svid_ttl.unwrap_or(old.x509_svid_ttl),
            jwt_svid_ttl: self.jwt_svid_ttl.unwrap_or(old.jwt_svid_ttl),
            federates_with: self.federates_with.unwrap_or(old.federates_with),
            admin: self.admin.unwrap_or(old.admin),
            downstream: self.downstream.unwrap_or(old.downstream),
            expires_at: self.expires_at.unwrap_or(old.expires_at),
            dns_names: self.dns_names.unwrap_or(old.dns_names),
            store_svid: self.store_svid.unwrap_or(old.store_svid),
            hint: self.hint.unwrap_or(old.hint),
            disable_x509_svid_prefetch: self
                .disable_x509_svid_prefetch
                .unwrap_or(old.disable_x509_svid_prefetch),
            jwt_svid_include_jti: self.jwt_svid_include_jti.unwrap_or(old.jwt_svid_include_jti),
            created_at: old.created_at,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
