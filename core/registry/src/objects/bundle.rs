//! Trust bundles as the log keeps them.

use serde::{Deserialize, Serialize};
use spiffe::TrustDomain;

/// The trust bundle of one trust domain: its SPIFFE bundle document with the name beside it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    trust_domain: TrustDomain,
    /// The SPIFFE bundle document (JWKS with `spiffe_sequence` and `spiffe_refresh_hint`).
    document: serde_json::Value,
}

impl Bundle {
    /// Whose authorities these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}
