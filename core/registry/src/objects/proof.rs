//! Proofs that count once: what a node attested with, so that nobody else can attest with it again.

use serde::{Deserialize, Serialize};
use spiffe::Timestamp;

use super::Sha256;

/// A proof that was used. Like a join token it belongs from then on to the key that used it first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// SHA-256 of what its issuer signed. The proof itself is nowhere.
    pub sha256: Sha256,
    /// SHA-256 of the public key (SubjectPublicKeyInfo) that it counts for.
    pub key_sha256: Sha256,
    /// When it counts no more by itself, and can be forgotten.
    pub until: Timestamp,
}
