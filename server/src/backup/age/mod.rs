//! The age file format, version 1 (C2SP `age.md`): for passphrases and for X25519 recipients.
//!
//! Why it is written here and not taken from a library: docs/decisions/0014-backups.md. What has been
//! sealed here is opened by every implementation of age, and the other way round.

mod header;
mod key;
mod stream;

use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    hkdf,
};
use zeroize::Zeroizing;

pub use key::{Identity, Recipient};
pub(crate) use stream::{Opened, Sealed};

/// A passphrase; wiped when it is dropped, and never shown.
pub type Passphrase = Zeroizing<String>;

/// For whom something is sealed.
pub enum To {
    /// Whoever knows the passphrase.
    Passphrase(Passphrase),
    /// Each of these, by its own key; nobody where there is none.
    Recipients(Vec<Recipient>),
}

/// By what something sealed is opened.
pub enum With {
    /// The passphrase.
    Passphrase(Passphrase),
    /// Whichever of these it was sealed for.
    Identities(Vec<Identity>),
}

/// Why something sealed is not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AgeError {
    /// It has another form.
    #[error("it is not a backup: it does not begin as an age file does")]
    NotAge,
    /// It was sealed for a passphrase, and a key was given, or the other way round.
    #[error("it was sealed {0}; {1}")]
    OtherKind(&'static str, &'static str),
    /// The passphrase or key is another one, or the header was altered.
    #[error("the passphrase or key does not open it, or its first bytes are damaged")]
    NotOpened,
    /// What was sealed has been altered or cut.
    #[error("it is damaged or was altered; take another copy")]
    Damaged,
    /// No randomness, or a key that no sum can be made with.
    #[error("the operating system gives no randomness, or the recipient's key is not one")]
    Unusable,
}

impl From<AgeError> for std::io::Error {
    fn from(error: AgeError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

const FILE_KEY: usize = 16;
const TAG: usize = 16;
type FileKey = Zeroizing<[u8; FILE_KEY]>;

fn random<const N: usize>() -> Result<[u8; N], AgeError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AgeError::Unusable)?;
    Ok(bytes)
}

/// Thirty-two bytes of HKDF-SHA-256.
fn derived(secret: &[u8], salt: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; 32]>, AgeError> {
    let mut out = Zeroizing::new([0; 32]);
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let filled = extracted.expand(&[info], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(out.as_mut_slice()));
    filled.map(|()| out).map_err(|_| AgeError::Unusable)
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, AgeError> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key);
    Ok(LessSafeKey::new(key.map_err(|_| AgeError::Unusable)?))
}

/// A file key under a key that is used for nothing else.
fn wrap(key: &[u8; 32], file_key: &FileKey) -> Result<Vec<u8>, AgeError> {
    let mut body = file_key.to_vec();
    let sealed = cipher(key)?.seal_in_place_append_tag(once(), Aad::empty(), &mut body);
    sealed.map(|()| body).map_err(|_| AgeError::Unusable)
}

fn unwrap(key: &[u8; 32], body: &[u8]) -> Option<FileKey> {
    if body.len() != FILE_KEY + TAG {
        return None; // the format asks for this check, against attacks with bodies that open to many keys
    }
    let mut body = Zeroizing::new(body.to_vec());
    let opened = cipher(key).ok()?.open_in_place(once(), Aad::empty(), &mut body).ok()?;
    Some(Zeroizing::new((&*opened).try_into().ok()?))
}

/// The nonce of keys that are used once.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    use super::*;

    fn seal(to: &To, content: &[u8]) -> Vec<u8> {
        let mut sealed = Sealed::new(Vec::new(), to).unwrap();
        sealed.write_all(content).unwrap();
        sealed.finish().unwrap()
    }

    fn open(with: &With, sealed: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut content = Vec::new();
        Opened::new(sealed, with)?.read_to_end(&mut content)?;
        Ok(content)
    }

    fn keys() -> (To, With) {
        let identity = Identity::generate().unwrap();
        (To::Recipients(vec![identity.recipient()]), With::Identities(vec![identity]))
    }

    const CHUNK: usize = 64 * 1024;

    #[test]
    fn what_was_sealed_is_opened_by_its_key_alone_whatever_its_length() {
        let ((to, with), (_, other)) = (keys(), keys());
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let content: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let sealed = seal(&to, &content);
            assert_eq!(open(&with, &sealed).unwrap(), content, "{length} bytes");
            let error = open(&other, &sealed).unwrap_err().to_string();
            assert!(error.contains("does not open it"), "{error}");
        }
    }

    #[test]
    fn each_of_several_recipients_opens_it() {
        let many: Vec<_> = (0..3).map(|_| Identity::generate().unwrap()).collect();
        let sealed = seal(&To::Recipients(many.iter().map(Identity::recipient).collect()), b"content");
        for identity in many {
            assert_eq!(open(&With::Identities(vec![identity]), &sealed).unwrap(), b"content");
        }
        assert!(Sealed::new(Vec::new(), &To::Recipients(vec![])).is_err(), "nobody could open it");
    }

    #[test]
    fn a_passphrase_opens_what_it_sealed_and_another_does_not() {
        let phrase = |text: &str| Zeroizing::new(text.to_owned());
        let sealed = seal(&To::Passphrase(phrase("correct horse")), b"content");
        assert_eq!(open(&With::Passphrase(phrase("correct horse")), &sealed).unwrap(), b"content");
        assert!(open(&With::Passphrase(phrase("wrong horse")), &sealed).is_err());
        let error = open(&keys().1, &sealed).unwrap_err().to_string();
        assert!(error.contains("a passphrase"), "{error}");
    }

    /// By age 1.2.1 of filippo.io, for a key and for a passphrase that were made for this test.
    #[test]
    fn what_the_reference_implementation_sealed_is_opened() {
        let key = "AGE-SECRET-KEY-1CA5P5QTM5RKH8Y9LNJF7JGMTN9DVYS54C78Z0ZKVXPRD0GHSPQWQR6HZF2";
        let for_key = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBoNVNweXZJMnF0MitOa2lZaVBrSzFoR1FhRVVsTW8ySGwwdmxYVmtvYmxBCkYxSmRRT3FJdTI3dnR4T1hUUUt1c0tOM3hobW1qbUFoYWdVdXFtNjNGYlkKLS0tIG95Mng0WXd6ZVUrWDF1Z1JJeWwzaVFUSXZCU05iOWV4VDhXbWJrVm5hZVUKGr//gJ4CM/jNtq6kF6oo9MXXVWb5SgWbk1Xk2cvi9/Didc67yGS3MiPzte5es8Q/9oOYxvaFFlNDaazURiXWOEa8Yg+xig==";
        let for_phrase = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBLZ2FVL1JjVmNFSkhDbTJKTEppd1lBIDE4ClUxN3l4YU9acVBQRGtPVmZQSWkwU2N1cjlScDYzUmE0RkgzbXBCRGxuNkUKLS0tIFlIN1h0YzBESVpJTE9QQWM3UnJXTEhrai9VTjdqdEIrL21Qck9WVjlrQ3MK6L/amVn8N7QIybCWlYSM2+CHZxw7ujJTjo1CWzAFdnbw6/21hnwkV7YUTRCxJHGeAqv0ZB3Dfkzg19FdAcGgeJg3krkncQ==";
        let phrase = Zeroizing::new("correct horse battery".to_owned());
        let ways =
            [(for_key, With::Identities(vec![key.parse().unwrap()])), (for_phrase, With::Passphrase(phrase))];
        for (sealed, with) in ways {
            let sealed = STANDARD.decode(sealed).unwrap();
            assert_eq!(open(&with, &sealed).unwrap(), b"sealed by the reference implementation");
        }
    }

    #[test]
    fn more_or_less_at_the_end_is_noticed() {
        let (to, with) = keys();
        let sealed = seal(&to, &vec![7; 2 * CHUNK]);
        for end in (sealed.len() - 40..sealed.len()).chain([sealed.len() - CHUNK - TAG, 100, 0]) {
            assert!(open(&with, &sealed[..end]).is_err(), "cut at {end}");
        }
        for more in [1, 16, 17, CHUNK + TAG] {
            assert!(open(&with, &[sealed.clone(), vec![0; more]].concat()).is_err(), "{more} more");
        }
    }

    proptest! {
        /// Header, body and tail: no byte may change.
        #[test]
        fn a_changed_byte_anywhere_is_noticed(place in any::<prop::sample::Index>(), bit in 0..8_u8, length in 0..3 * CHUNK) {
            let (to, with) = keys();
            let mut sealed = seal(&to, &vec![7; length]);
            let place = place.index(sealed.len());
            sealed[place] ^= 1 << bit;
            prop_assert!(open(&with, &sealed).is_err());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), from in 0..200_usize) {
            let (to, with) = keys();
            let _ = open(&with, &bytes);
            let sealed = seal(&to, b"content");
            let from = from.min(sealed.len());
            let _ = open(&with, &[&sealed[..from], &bytes].concat());
        }
    }
}
