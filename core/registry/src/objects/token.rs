//! Join tokens. The secret itself is nowhere: only its hash.

use serde::{Deserialize, Serialize};
use spiffe::Timestamp;

use super::{NodeName, Sha256};

/// A join token of one node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The node that joins with it.
    pub node: NodeName,
    /// SHA-256 of the secret's text. The secret has 256 random bits, so a plain hash is enough.
    pub secret_sha256: Sha256,
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
        /// SHA-256 of the key's SubjectPublicKeyInfo.
        key_sha256: Sha256,
    },
    /// The node's first authenticated call came; the token is worth nothing now.
    Spent {
        /// SHA-256 of the key that joined with it.
        key_sha256: Sha256,
    },
}

/// The text `<node>.<secret>` that a person carries to the other machine.
#[derive(Debug)]
pub struct JoinToken;

/// Base64url of 32 bytes.
pub(super) const SECRET_LENGTH: usize = 43;

impl JoinToken {
    /// The whole token of `node` and the hash of its secret, which is made of these random bytes.
    pub fn mint(node: &NodeName, random: &[u8; 32]) -> (String, Sha256) {
        use base64::Engine as _;
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random);
        (format!("{node}.{secret}"), Sha256::of(secret.as_bytes()))
    }

    /// The node that a whole token names and the hash of its secret. A node's name never has the
    /// form of a whole token, so the two cannot be taken for each other.
    pub fn split(text: &str) -> Option<(NodeName, Sha256)> {
        let (node, secret) = text.rsplit_once('.')?;
        if secret.len() != SECRET_LENGTH {
            return None;
        }
        Some((node.parse().ok()?, Sha256::of(secret.as_bytes())))
    }
}
