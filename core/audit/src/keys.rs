//! What a tenant's key is for: digests of arguments that nobody can guess at, and payloads about persons
//! that can be erased while every proof goes on to hold.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use spiffe::json::{NotCanonical, canonical};
use zeroize::{Zeroize, Zeroizing};

/// The key of one tenant. Each use has its own key, derived from it.
#[derive(Clone)]
pub struct TenantKey {
    arguments: hmac::Key,
    payloads: Zeroizing<[u8; 32]>,
}

/// HMAC-SHA-256 of arguments in their canonical form (RFC 8785): equal arguments of a tenant have equal
/// digests, and who has no key cannot try guesses.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ArgsDigest(pub [u8; 32]);

/// A commitment to a payload: SHA-256 of a salt that lies with the payload, and the payload. When both
/// are erased it says nothing any more.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Commitment(pub [u8; 32]);

/// A payload that only the tenant's key opens: nonce, then AES-256-GCM over salt and payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed(pub Vec<u8>);

/// A payload that cannot be sealed or opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PayloadError {
    /// No randomness.
    #[error("the operating system gives no randomness, so nothing can be sealed")]
    Randomness,
    /// Too long.
    #[error("a payload of {0} bytes is longer than {MAX_PAYLOAD}")]
    Length(usize),
    /// Another key, other bytes, or another record's.
    #[error("the payload does not open: it is another record's or another tenant's, or it was altered")]
    Closed,
}

/// A payload's bytes at most.
pub const MAX_PAYLOAD: usize = 16 * 1024;
/// A sealed payload's bytes at most.
pub const MAX_SEALED: usize = MAX_PAYLOAD + SALT + NONCE_LEN + 16;
const SALT: usize = 32;

impl TenantKey {
    /// The key made of these bytes, which are wiped.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        bytes.zeroize();
        let derived = |label: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            key.copy_from_slice(hmac::sign(&root, label).as_ref());
            key
        };
        let arguments = derived(b"writ audit arguments v1");
        Self {
            arguments: hmac::Key::new(hmac::HMAC_SHA256, arguments.as_slice()),
            payloads: derived(b"writ audit payloads v1"),
        }
    }

    /// The digest of arguments.
    pub fn digest(&self, arguments: &Value) -> Result<ArgsDigest, NotCanonical> {
        Ok(self.digest_canonical(&canonical(arguments)?))
    }

    /// The digest of arguments that are in canonical form already.
    pub fn digest_canonical(&self, arguments: &[u8]) -> ArgsDigest {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.arguments, arguments).as_ref());
        ArgsDigest(digest)
    }

    /// Seals a payload; the commitment goes into its record.
    pub fn seal(&self, payload: &[u8]) -> Result<(Commitment, Sealed), PayloadError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(PayloadError::Length(payload.len()));
        }
        let random = SystemRandom::new();
        let (mut salt, mut nonce) = ([0; SALT], [0; NONCE_LEN]);
        random
            .fill(&mut salt)
            .and_then(|()| random.fill(&mut nonce))
            .map_err(|_| PayloadError::Randomness)?;
        let mut inner = [salt.as_slice(), payload].concat();
        let commitment = Commitment::to(&inner);
        let aad = Aad::from(commitment.0);
        let sealing =
            self.payload_key().seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut inner);
        sealing.map_err(|_| PayloadError::Closed)?;
        Ok((commitment, Sealed([nonce.as_slice(), &inner].concat())))
    }

    /// Opens the payload of the record with this commitment.
    pub fn open(&self, commitment: Commitment, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, PayloadError> {
        let (nonce, inner) = sealed.0.split_first_chunk::<NONCE_LEN>().ok_or(PayloadError::Closed)?;
        let mut inner = Zeroizing::new(inner.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.payload_key().open_in_place(nonce, Aad::from(commitment.0), &mut inner);
        let opened = opened.map_err(|_| PayloadError::Closed)?;
        match Commitment::to(opened) == commitment {
            true => opened.get(SALT..).map(|payload| Zeroizing::new(payload.to_vec())),
            false => None,
        }
        .ok_or(PayloadError::Closed)
    }

    fn payload_key(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, self.payloads.as_slice());
        LessSafeKey::new(key.expect("an AES-256 key has 32 bytes"))
    }
}

impl Commitment {
    fn to(salted: &[u8]) -> Self {
        let mut commitment = [0; 32];
        commitment.copy_from_slice(digest(&SHA256, salted).as_ref());
        Self(commitment)
    }
}

impl fmt::Debug for TenantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantKey")
    }
}

/// Gives a 32-byte value its text, with a word before it that says what it is.
macro_rules! worded {
    ($name:ident, $word:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($word, ":{}"), hex::encode(self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                let mut bytes = [0; 32];
                text.strip_prefix(concat!($word, ":"))
                    .and_then(|digits| hex::decode_to_slice(digits, &mut bytes).ok())
                    .map(|()| Self(bytes))
                    .ok_or_else(|| de::Error::custom(concat!("not ", $word, ": and 64 digits")))
            }
        }
    };
}

worded!(ArgsDigest, "hmac-sha256");
worded!(Commitment, "sha256");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_arguments_have_equal_digests_under_one_tenants_key_only() {
        let (key, other) = (TenantKey::new([1; 32]), TenantKey::new([2; 32]));
        let digest = key.digest(&json!({"to": "a@b.example", "n": 1})).unwrap();
        assert_eq!(digest, key.digest(&json!({"n": 1.0, "to": "a@b.example"})).unwrap());
        assert_ne!(digest, other.digest(&json!({"n": 1, "to": "a@b.example"})).unwrap());
        assert_ne!(digest, key.digest(&json!({"n": 2, "to": "a@b.example"})).unwrap());
        assert!(key.digest(&json!({"n": u64::MAX})).is_err());
    }

    #[test]
    fn a_payload_opens_with_its_key_and_its_record_only() {
        let (key, other) = (TenantKey::new([1; 32]), TenantKey::new([2; 32]));
        let (commitment, sealed) = key.seal(b"Ada Lovelace").unwrap();
        assert_eq!(key.open(commitment, &sealed).unwrap().as_slice(), b"Ada Lovelace");
        assert_eq!(other.open(commitment, &sealed), Err(PayloadError::Closed));
        let (another, _) = key.seal(b"Ada Lovelace").unwrap();
        assert_ne!(another, commitment, "the salt keeps equal payloads apart");
        assert_eq!(key.open(another, &sealed), Err(PayloadError::Closed));
        for at in 0..sealed.0.len() {
            let mut bytes = sealed.0.clone();
            bytes[at] ^= 1;
            assert_eq!(key.open(commitment, &Sealed(bytes)), Err(PayloadError::Closed), "byte {at}");
        }
        assert_eq!(key.open(commitment, &Sealed(Vec::new())), Err(PayloadError::Closed));
    }

    #[test]
    fn a_tenants_key_prints_nothing_of_itself() {
        assert_eq!(format!("{:?}", TenantKey::new([7; 32])), "TenantKey");
    }
}
