//! X25519 keys as age writes them: `age1…` for the recipient, `AGE-SECRET-KEY-1…` for the identity.

use std::{fmt, str::FromStr};

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use bech32::{Bech32, Hrp, primitives::decode::CheckedHrpstring};
use zeroize::Zeroizing;

use super::{AgeError, random};

/// A public key that a backup can be sealed for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recipient(pub(super) [u8; 32]);

/// A secret key that opens what was sealed for its recipient. Never shown.
pub struct Identity {
    secret: Zeroizing<[u8; 32]>,
    recipient: Recipient,
}

/// A text that is not a key of age.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AgeKeyError {
    /// Not a recipient.
    #[error("{0:?} is not a recipient; one begins with age1, as `writ backup key` and age-keygen print it")]
    Recipient(String),
    /// Not an identity, which is not repeated here.
    #[error(
        "it holds a line that is no key; a key begins with AGE-SECRET-KEY-1, as `writ backup key` and age-keygen write it"
    )]
    Identity,
}

const RECIPIENT: &str = "age";
const IDENTITY: &str = "age-secret-key-";

impl Identity {
    /// A fresh one.
    pub fn generate() -> Result<Self, AgeError> {
        Self::new(Zeroizing::new(random()?)).ok_or(AgeError::Unusable)
    }

    /// Whom to seal for so that this one can open it.
    pub fn recipient(&self) -> Recipient {
        self.recipient.clone()
    }

    /// The line that holds the secret.
    pub fn to_secret_line(&self) -> Zeroizing<String> {
        let hrp = Hrp::parse_unchecked(IDENTITY);
        let text = bech32::encode_upper::<Bech32>(hrp, self.secret.as_slice());
        Zeroizing::new(text.expect("thirty-two bytes are not too long"))
    }

    fn new(secret: Zeroizing<[u8; 32]>) -> Option<Self> {
        let public = private(&secret)?.compute_public_key().ok()?;
        Some(Self { recipient: Recipient(public.as_ref().try_into().ok()?), secret })
    }

    /// The secret that this one shares with `share`.
    pub(super) fn shared(&self, share: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        shared(&private(&self.secret)?, share)
    }
}

/// A one-time key's public half, and the secret that it shares with `recipient`.
pub(super) fn share_with(recipient: &Recipient) -> Option<([u8; 32], Zeroizing<[u8; 32]>)> {
    let ephemeral = PrivateKey::generate(&X25519).ok()?;
    let public = ephemeral.compute_public_key().ok()?.as_ref().try_into().ok()?;
    Some((public, shared(&ephemeral, &recipient.0)?))
}

fn private(secret: &[u8; 32]) -> Option<PrivateKey> {
    PrivateKey::from_private_key(&X25519, secret).ok()
}

/// An all-zero secret, which a malicious share would give, is refused by aws-lc.
fn shared(own: &PrivateKey, share: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let share = UnparsedPublicKey::new(&X25519, share);
    agree(own, share, (), |secret| secret.try_into().map(Zeroizing::new).map_err(drop)).ok()
}

impl FromStr for Recipient {
    type Err = AgeKeyError;
    fn from_str(text: &str) -> Result<Self, AgeKeyError> {
        bytes(text, RECIPIENT).map(|key| Self(*key)).ok_or_else(|| AgeKeyError::Recipient(text.to_owned()))
    }
}

impl FromStr for Identity {
    type Err = AgeKeyError;
    fn from_str(text: &str) -> Result<Self, AgeKeyError> {
        bytes(text, IDENTITY).and_then(Self::new).ok_or(AgeKeyError::Identity)
    }
}

fn bytes(text: &str, hrp: &str) -> Option<Zeroizing<[u8; 32]>> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    if !checked.hrp().as_str().eq_ignore_ascii_case(hrp) || checked.byte_iter().count() != 32 {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    checked.byte_iter().zip(key.iter_mut()).for_each(|(byte, slot)| *slot = byte);
    Some(key)
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<Bech32, _>(f, Hrp::parse_unchecked(RECIPIENT), &self.0)
            .map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity of {}", self.recipient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were_written() {
        let identity = Identity::generate().unwrap();
        let line = identity.to_secret_line();
        assert!(line.starts_with("AGE-SECRET-KEY-1"), "the form that age-keygen has");
        let again: Identity = line.parse().unwrap();
        assert_eq!(again.recipient(), identity.recipient());
        let recipient = identity.recipient().to_string();
        assert_eq!(recipient.parse(), Ok(identity.recipient()));
        assert!(recipient.parse::<Identity>().is_err() && line.parse::<Recipient>().is_err());
        assert!(!format!("{identity:?}").contains("SECRET"));
    }

    #[test]
    fn a_mistyped_recipient_is_noticed() {
        let text = Identity::generate().unwrap().recipient().to_string();
        for place in 4..text.len() {
            let other = if text.as_bytes()[place] == b'q' { "p" } else { "q" };
            let mut typo = text.clone();
            typo.replace_range(place..=place, other);
            assert!(typo.parse::<Recipient>().is_err(), "{typo}");
        }
    }
}
