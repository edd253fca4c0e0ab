//! Join tokens. The secret itself is nowhere: only its hash.

use serde::{Deserialize, Serialize};
use spiffe::Timestamp;

use super::NodeName;

/// A join token of one node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The node that joins with it.
    pub node: NodeName,
    /// SHA-256 of the secret, hex. The secret has 256 random bits, so a plain hash is enough.
    pub secret_sha256: String,
    /// When it stops counting.
    pub expires_at: Timestamp,
    /// What has become of it.
    pub state: TokenState,
}

/// What has become of a token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum TokenState {
    /// Nobody has used it.
    Fresh,
    /// Bound to the key that used it first; only that key may repeat.
    Bound {
        /// SHA-256 of the key's SubjectPublicKeyInfo, hex.
        key_sha256: String,
    },
    /// The node's first authenticated call came; the token is worth nothing now.
    Spent {
        /// SHA-256 of the key that joined with it.
        key_sha256: String,
    },
}
