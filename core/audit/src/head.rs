//! Heads: what a node says of its chain each second, signed with the node's key. Who has a head notices
//! when the chain ends before it, or is another one.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};
use spiffe::{PrivateKey, Timestamp};

use crate::{Hash, spool::SpoolId};

/// The end of a node's chain at a moment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Whose chain.
    pub node: String,
    /// Which of its spools.
    pub spool: SpoolId,
    /// The last durable record.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// When, by the node's clock.
    pub at: Timestamp,
}

/// A head with the node's signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedHead {
    /// What is signed.
    pub head: Head,
    /// ECDSA P-256 with SHA-256 (ASN.1).
    pub signature: Vec<u8>,
}

/// No signature could be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the node's key cannot sign")]
pub struct Unsigned;

impl Head {
    /// Signs it with the node's key.
    pub fn sign(self, key: &PrivateKey) -> Result<SignedHead, Unsigned> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.pkcs8());
        let pair = pair.map_err(|_| Unsigned)?;
        let signature = pair.sign(&SystemRandom::new(), &self.message()).map_err(|_| Unsigned)?;
        Ok(SignedHead { head: self, signature: signature.as_ref().to_vec() })
    }

    /// The bytes that are signed.
    fn message(&self) -> Vec<u8> {
        // A name has no NUL in it and what follows has a fixed length, so the parts cannot run into each
        // other.
        let Self { node, spool, seq, hash, at } = self;
        let mut message = b"writ audit head v1\0".to_vec();
        message.extend_from_slice(node.as_bytes());
        message.push(0);
        message.extend_from_slice(&spool.0);
        message.extend_from_slice(&seq.to_be_bytes());
        message.extend_from_slice(&hash.0);
        message.extend_from_slice(&at.unix_millis().to_be_bytes());
        message
    }
}

impl SignedHead {
    /// Whether the holder of this key (SubjectPublicKeyInfo, DER) signed.
    pub fn is_signed_by(&self, public_key: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key);
        key.verify(&self.head.message(), &self.signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nodes_key_signs_and_only_this_head() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let head = Head {
            node: "spiffe://acme.example/spire/agent/join_token/web-1".to_owned(),
            spool: SpoolId([1; 16]),
            seq: 7,
            hash: Hash([2; 32]),
            at: Timestamp::from_unix_seconds(3),
        };
        let signed = head.clone().sign(&key).unwrap();
        let public = key.public_key().unwrap();
        assert!(signed.is_signed_by(&public) && !signed.is_signed_by(&other.public_key().unwrap()));
        for changed in [
            Head { node: "web-2".to_owned(), ..head.clone() },
            Head { spool: SpoolId([9; 16]), ..head.clone() },
            Head { seq: 8, ..head.clone() },
            Head { hash: Hash([3; 32]), ..head.clone() },
            Head { at: Timestamp::from_unix_seconds(4), ..head.clone() },
        ] {
            assert!(!SignedHead { head: changed, ..signed.clone() }.is_signed_by(&public));
        }
    }
}
