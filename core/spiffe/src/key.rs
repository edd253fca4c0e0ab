//! Private keys: PKCS#8 bytes that are never printed and are wiped when dropped.

use std::fmt;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// The longest private key accepted, in bytes: an RSA key of 4,096 bits needs 2,400.
const MAX_BYTES: usize = 8 * 1024;

/// A private key as PKCS#8 DER.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<Vec<u8>>);

/// Why bytes are not a private key, or a key cannot be used.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error("no key can be made: the operating system gives no randomness")]
    Generation,
    /// Longer than any key accepted here.
    #[error("a private key of {0} bytes is longer than {MAX_BYTES}")]
    Length(usize),
    /// Not PKCS#8, or of another kind than asked for.
    #[error("not an ECDSA P-256 private key in PKCS#8")]
    Form,
}

impl PrivateKey {
    /// A fresh ECDSA P-256 key.
    pub fn generate() -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError::Generation)?;
        Ok(Self(Zeroizing::new(document.as_ref().to_vec())))
    }

    /// Takes over PKCS#8 bytes, which are not looked into before the key is used.
    pub fn from_pkcs8(der: Vec<u8>) -> Result<Self, KeyError> {
        let der = Zeroizing::new(der);
        if der.len() > MAX_BYTES {
            return Err(KeyError::Length(der.len()));
        }
        Ok(Self(der))
    }

    /// The PKCS#8 bytes, for whoever must store or send them.
    pub fn pkcs8(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as rustls and rcgen take them, borrowed.
    pub fn to_der(&self) -> PrivateKeyDer<'_> {
        PrivatePkcs8KeyDer::from(self.pkcs8()).into()
    }

    /// The public key as SubjectPublicKeyInfo, DER.
    pub fn public_key(&self) -> Result<Vec<u8>, KeyError> {
        let pair = self.ecdsa_p256()?;
        let spki = pair.public_key().as_der().map_err(|_| KeyError::Form)?;
        Ok(spki.as_ref().to_vec())
    }

    /// The parsed ECDSA P-256 key.
    pub(crate) fn ecdsa_p256(&self) -> Result<EcdsaKeyPair, KeyError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, self.pkcs8()).map_err(|_| KeyError::Form)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_prints_nothing_of_itself() {
        let key = PrivateKey::generate().expect("randomness");
        assert_eq!(format!("{key:?}"), "PrivateKey");
    }

    #[test]
    fn a_private_key_survives_its_bytes() {
        let key = PrivateKey::generate().expect("randomness");
        let again = PrivateKey::from_pkcs8(key.pkcs8().to_vec()).expect("short enough");
        assert_eq!(again.public_key(), key.public_key());
        assert_ne!(PrivateKey::generate().expect("randomness").public_key(), key.public_key());
    }

    #[test]
    fn bytes_that_are_no_key_are_refused_before_use() {
        assert_eq!(
            PrivateKey::from_pkcs8(vec![0; MAX_BYTES + 1]).err(),
            Some(KeyError::Length(MAX_BYTES + 1))
        );
        let nonsense = PrivateKey::from_pkcs8(vec![0x30, 0x00]).expect("short enough");
        assert_eq!(nonsense.public_key(), Err(KeyError::Form));
    }
}
