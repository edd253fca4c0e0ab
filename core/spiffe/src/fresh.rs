//! How new a server's view is: a head of its log, signed by the pin key. An agent permits nothing without one that
//! is young enough, by a clock that nobody can set back.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use crate::{Timestamp, TrustDomain};

/// What the server says of its log at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fresh<'a> {
    /// Whose log it is.
    pub trust_domain: &'a TrustDomain,
    /// The log.
    pub log: &'a str,
    /// Its newest revision.
    pub revision: u64,
    /// The server's clock.
    pub at: Timestamp,
}

impl Fresh<'_> {
    /// The bytes that are signed.
    pub fn message(&self) -> Vec<u8> {
        // Neither name has a NUL in it, and what follows has a fixed length, so the parts cannot run into each other.
        let parts: [&[u8]; 4] = [
            b"writ fresh v1",
            self.trust_domain.as_str().as_bytes(),
            self.log.as_bytes(),
            &self.revision.to_be_bytes(),
        ];
        let mut message = parts.join(&0);
        message.extend(self.at.unix_millis().to_be_bytes());
        message
    }

    /// Whether the holder of this key (SubjectPublicKeyInfo, DER) signed. Whoever asks knows it by its pin.
    pub fn is_signed_by(&self, public_key: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key);
        !self.log.contains('\0') && key.verify(&self.message(), signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PinKey, PrivateKey};

    #[test]
    fn only_the_pin_key_says_how_new_a_log_is_and_nothing_of_it_can_be_changed() {
        let key = PinKey::new(&PrivateKey::generate().unwrap()).unwrap();
        let (ours, theirs) = ("acme.example".parse().unwrap(), "other.example".parse().unwrap());
        let at = Timestamp::from_unix_seconds(1_800_000_000);
        let said = Fresh { trust_domain: &ours, log: "log", revision: 7, at };
        let signature = key.sign_message(&said.message()).unwrap();
        assert!(said.is_signed_by(key.public_key(), &signature));
        for changed in [
            Fresh { trust_domain: &theirs, ..said },
            Fresh { log: "log2", ..said },
            Fresh { revision: 8, ..said },
            Fresh { at: Timestamp::from_unix_seconds(1_800_000_001), ..said },
        ] {
            assert!(!changed.is_signed_by(key.public_key(), &signature), "{changed:?}");
        }
        let other = PinKey::new(&PrivateKey::generate().unwrap()).unwrap();
        assert!(!said.is_signed_by(other.public_key(), &signature));
    }
}
