//! Where the private keys of authorities are kept. They never leave `ca`.

mod disk;
mod memory;

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    },
};
use daemon::DiskError;
pub(crate) use disk::Disk;
pub(crate) use memory::Memory;
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use registry::objects::AuthorityId;
use spiffe::{KeyError, PrivateKey};

use super::IssueError;

/// Keeps the private keys of authorities.
pub(crate) trait KeyStore: Send + Sync {
    /// Makes a key and keeps it.
    fn make(&self) -> Result<AuthorityKey, KeyStoreError>;
    /// The key of an authority; `None` where it is not here, or no more.
    fn find(&self, id: &AuthorityId) -> Result<Option<AuthorityKey>, KeyStoreError>;
    /// Destroys one key.
    fn destroy(&self, id: &AuthorityId) -> Result<(), KeyStoreError>;
    /// Destroys the keys of all other authorities than these: what will not sign again needs no key.
    fn keep_only(&self, ids: &[AuthorityId]) -> Result<(), KeyStoreError>;
}

/// An authority's key, ready to sign. A clone is the same key.
#[derive(Clone)]
pub(crate) struct AuthorityKey(Arc<Inner>);

struct Inner {
    id: AuthorityId,
    key_identifier: Vec<u8>,
    public_key: Vec<u8>,
    /// Signs as certificates have it, ASN.1.
    pair: EcdsaKeyPair,
    /// The same key, which signs as tokens have it: two numbers in 64 bytes.
    fixed: EcdsaKeyPair,
    random: SystemRandom,
}

/// A key that cannot be made, kept or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The file system does not do its part, or a file is open to others.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A key cannot be made or read.
    #[error("{what}: {source}")]
    Key {
        /// Which key.
        what: String,
        /// Why.
        source: KeyError,
    },
}

impl AuthorityKey {
    fn new(key: &PrivateKey) -> Result<Self, KeyError> {
        let pair = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, key.pkcs8()).map_err(|_| KeyError::Form);
        let public_key = key.public_key()?;
        // RFC 7093 section 2, method 4: a truncated hash of the SubjectPublicKeyInfo.
        let mut key_identifier = registry::objects::Sha256::of(&public_key).0.to_vec();
        key_identifier.truncate(20);
        let id = hex::encode(&key_identifier).parse().map_err(|_| KeyError::Form)?;
        Ok(Self(Arc::new(Inner {
            id,
            key_identifier,
            public_key,
            pair: pair(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            fixed: pair(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            random: SystemRandom::new(),
        })))
    }

    /// The authority's name: the key identifier in hex.
    pub(super) fn id(&self) -> &AuthorityId {
        &self.0.id
    }

    /// The key identifier.
    pub(super) fn key_identifier(&self) -> &[u8] {
        &self.0.key_identifier
    }

    /// The public key as SubjectPublicKeyInfo, DER.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.0.public_key
    }

    /// An ES256 signature (RFC 7518, section 3.4).
    pub(super) fn sign_es256(&self, message: &[u8]) -> Result<Vec<u8>, IssueError> {
        let signature = self.0.fixed.sign(&self.0.random, message).map_err(|_| IssueError::Randomness)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature =
            self.0.pair.sign(&self.0.random, message).map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey({})", self.0.id)
    }
}
