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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
