//! How a node that lost its certificate proves that it is the one that had it: it signs the server's
//! challenge with the key that the server knows it by.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey},
};

use crate::{KeyError, PrivateKey, SpiffeId};

/// What a returning node signs: nothing of it can be used for another node, another time or another
/// certificate request.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// The node that returns; it says of which trust domain, too.
    pub node: &'a SpiffeId,
    /// What the server made for this one time.
    pub nonce: &'a [u8; NONCE_BYTES],
    /// The certificate request (PKCS#10, DER) that came with it.
    pub request: &'a [u8],
}

/// The length of a nonce.
pub const NONCE_BYTES: usize = 32;

impl Challenge<'_> {
    /// The node's answer: ECDSA P-256 with SHA-256 (ASN.1).
    pub fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
        let signed = key.ecdsa_p256()?.sign(&SystemRandom::new(), &self.message());
        Ok(signed.map_err(|_| KeyError::Generation)?.as_ref().to_vec())
    }

    /// Whether the holder of this key (SubjectPublicKeyInfo, DER) signed.
    pub fn is_signed_by(&self, public_key: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key).verify(&self.message(), signature).is_ok()
    }

    /// The bytes that are signed.
    fn message(&self) -> Vec<u8> {
        // Names have no NUL in them, and what follows them has a fixed length, so the parts cannot run
        // into each other.
        let trust_domain = self.node.trust_domain();
        let request = digest(&SHA256, self.request);
        let parts: [&[u8]; 5] = [
            b"writ return v1",
            trust_domain.as_str().as_bytes(),
            self.node.as_str().as_bytes(),
            self.nonce,
            request.as_ref(),
        ];
        parts.join(&0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nodes_key_answers_and_only_this_challenge() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let node: SpiffeId = "spiffe://acme.example/spire/agent/join_token/web-1".parse().unwrap();
        let another: SpiffeId = "spiffe://acme.example/spire/agent/join_token/web-2".parse().unwrap();
        let foreign: SpiffeId = "spiffe://other.example/spire/agent/join_token/web-1".parse().unwrap();
        let asked = Challenge { node: &node, nonce: &[7; 32], request: b"request" };
        let (public, answer) = (key.public_key().unwrap(), asked.sign(&key).unwrap());
        assert!(asked.is_signed_by(&public, &answer));
        assert!(!asked.is_signed_by(&other.public_key().unwrap(), &answer));
        for changed in [
            Challenge { node: &another, ..asked },
            Challenge { node: &foreign, ..asked },
            Challenge { nonce: &[8; 32], ..asked },
            Challenge { request: b"another", ..asked },
        ] {
            assert!(!changed.is_signed_by(&public, &answer), "{changed:?}");
        }
        assert!(!asked.is_signed_by(b"no key", &answer) && !asked.is_signed_by(&public, b""));
    }
}
