//! The pin: how an agent knows its server before it knows any certificate authority.
//!
//! A server has one pin key, which signs the trust bundle, how new the log is, and approvals of mandates. The pin is the SHA-256 of
//! that key's SubjectPublicKeyInfo, short enough for a command line. Whoever has the pin can take
//! the signed bundle from any hand.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};

use crate::{Bundle, BundleError, KeyError, PrivateKey, TrustDomain};

/// The SHA-256 of a pin key's SubjectPublicKeyInfo, written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin([u8; 32]);

/// A trust bundle with the pin key's signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedBundle {
    /// Whose bundle this is; signed too, so it cannot be passed off as another's.
    pub trust_domain: TrustDomain,
    /// The SPIFFE bundle document, byte for byte as signed.
    pub document: Vec<u8>,
    /// SubjectPublicKeyInfo (DER) of the pin key.
    pub pin_public_key: Vec<u8>,
    /// ECDSA P-256 with SHA-256 (ASN.1) over [`SignedBundle::message`].
    pub signature: Vec<u8>,
}

/// The server's half: the key behind the pin.
pub struct PinKey {
    key: aws_lc_rs::signature::EcdsaKeyPair,
    public_key: Vec<u8>,
}

/// Why a bundle is not the pinned server's.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The text is not a pin.
    #[error("{0:?} is not a pin: write sha256: and 64 hex digits, as `writ token create` prints it")]
    Form(String),
    /// The bundle is signed by another key than the pinned one.
    #[error("the server has another key than the pinned one: it shows {found}, expected {expected}")]
    OtherKey {
        /// The pin that was asked for.
        expected: Pin,
        /// The pin of the key that was shown.
        found: Pin,
    },
    /// The signature does not fit key, trust domain and document.
    #[error("the trust bundle's signature is not the pinned key's")]
    Signature,
    /// Signed by the right key, but not a bundle.
    #[error("the signed trust bundle cannot be used: {0}")]
    Bundle(#[from] BundleError),
    /// The pin key cannot be used.
    #[error("the pin key cannot be used: {0}")]
    Key(#[from] KeyError),
}

impl Pin {
    /// The pin of a SubjectPublicKeyInfo (DER).
    pub fn of(public_key: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest(&SHA256, public_key).as_ref());
        Self(pin)
    }
}

impl SignedBundle {
    /// Checks that the pinned key signed this document for this trust domain, then parses it.
    pub fn verify(&self, pin: &Pin) -> Result<Bundle, PinError> {
        let found = Pin::of(&self.pin_public_key);
        if found != *pin {
            return Err(PinError::OtherKey { expected: *pin, found });
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.pin_public_key)
            .verify(&Self::message(&self.trust_domain, &self.document), &self.signature)
            .map_err(|_| PinError::Signature)?;
        Ok(Bundle::parse(self.trust_domain.clone(), &self.document)?)
    }

    /// The bytes that are signed.
    pub fn message(trust_domain: &TrustDomain, document: &[u8]) -> Vec<u8> {
        // A trust domain has no NUL in it, so the parts cannot run into each other.
        [b"writ bundle v1", trust_domain.as_str().as_bytes(), document].join(&0)
    }
}

impl PinKey {
    /// The pin key in these PKCS#8 bytes.
    pub fn new(key: &PrivateKey) -> Result<Self, PinError> {
        Ok(Self { public_key: key.public_key()?, key: key.ecdsa_p256()? })
    }

    /// What agents pin.
    pub fn pin(&self) -> Pin {
        Pin::of(&self.public_key)
    }

    /// Its public half (SubjectPublicKeyInfo, DER).
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// ECDSA P-256 with SHA-256 (ASN.1) over a message that says in its first bytes what it is, and of which trust
    /// domain, so that nothing signed here passes for something else.
    pub fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, PinError> {
        let signature = self.key.sign(&SystemRandom::new(), message);
        signature.map(|it| it.as_ref().to_vec()).map_err(|_| PinError::Key(KeyError::Form))
    }

    /// Signs a bundle document.
    pub fn sign(&self, trust_domain: &TrustDomain, document: Vec<u8>) -> Result<SignedBundle, PinError> {
        let signature = self.sign_message(&SignedBundle::message(trust_domain, &document))?;
        Ok(SignedBundle {
            trust_domain: trust_domain.clone(),
            document,
            pin_public_key: self.public_key.clone(),
            signature,
        })
    }
}

impl FromStr for Pin {
    type Err = PinError;
    fn from_str(text: &str) -> Result<Self, PinError> {
        let mut pin = [0; 32];
        text.strip_prefix("sha256:")
            .and_then(|digits| hex::decode_to_slice(digits, &mut pin).ok())
            .map(|()| Self(pin))
            .ok_or_else(|| PinError::Form(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Pin {
    type Error = PinError;
    fn try_from(text: String) -> Result<Self, PinError> {
        text.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for PinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinKey({})", self.pin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (Pin, SignedBundle) {
        let key = PinKey::new(&PrivateKey::generate().expect("randomness")).expect("a P-256 key");
        let trust_domain = "acme.example".parse().expect("a name");
        (key.pin(), key.sign(&trust_domain, br#"{"keys":[]}"#.to_vec()).expect("signed"))
    }

    #[test]
    fn the_pinned_key_vouches_for_its_bundle() {
        let (pin, signed) = signed();
        assert!(signed.verify(&pin).expect("verified").x509_authorities.is_empty());
        assert_eq!(pin.to_string().parse::<Pin>().expect("a pin"), pin);
    }

    #[test]
    fn nothing_of_a_signed_bundle_can_be_changed() {
        let (pin, good) = signed();
        let (other_pin, other) = self::signed();
        let refused = [
            SignedBundle { trust_domain: "evil.example".parse().expect("a name"), ..good.clone() },
            SignedBundle { document: br#"{"keys":[ ]}"#.to_vec(), ..good.clone() },
            SignedBundle { signature: other.signature.clone(), ..good.clone() },
            SignedBundle { pin_public_key: other.pin_public_key.clone(), ..good.clone() },
            other,
        ];
        for (n, bundle) in refused.iter().enumerate() {
            assert!(bundle.verify(&pin).is_err(), "change {n}");
        }
        assert!(matches!(good.verify(&other_pin), Err(PinError::OtherKey { .. })));
    }

    #[test]
    fn a_pin_is_a_hash_name_and_64_digits() {
        for text in ["", "sha256:", "sha1:00", &format!("sha256:{}", "0".repeat(63)), &"0".repeat(64)] {
            assert!(matches!(text.parse::<Pin>(), Err(PinError::Form(_))), "{text:?}");
        }
    }
}
