//! Notes signed with Ed25519 (C2SP signed-note): a text, an empty line, and a line for each signature.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// A note's bytes at most: 16 signatures of the longest kind that there is fit.
pub const MAX_NOTE: usize = 128 * 1024;
const ED25519_TYPE: u8 = 1;
const DASH: &str = "— ";

/// A key that signs notes.
pub struct NoteKey {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
}

/// What a note's signature is verified with; its text is `name+hash+key`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

/// Why a note is not signed by a key, or cannot be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoteError {
    /// Names of keys have no spaces and no plus.
    #[error("{0:?} cannot name a key: it is empty, or has a space or a plus in it")]
    Name(String),
    /// Not a verifier key.
    #[error("not a verifier key: one looks like name+1a2b3c4d+base64")]
    Key,
    /// Not the form of a note.
    #[error("not a signed note: {0}")]
    Form(&'static str),
    /// Not signed by this key.
    #[error("the note has no signature by {0}")]
    Unsigned(String),
    /// Signed by somebody else in this key's name, or altered.
    #[error("the signature by {0} does not fit the note")]
    Signature(String),
}

impl NoteKey {
    /// The key of this seed, which is wiped when the key is dropped.
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice());
        Self { pair: pair.expect("every 32 bytes are the seed of a key"), seed }
    }

    /// The seed, for whoever must keep it.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// What others verify with, under a name.
    pub fn verifier(&self, name: &str) -> Result<VerifierKey, NoteError> {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        VerifierKey::new(name, public)
    }

    /// Signs a text, which ends with a newline, under a name.
    pub fn sign(&self, name: &str, text: &str) -> Result<String, NoteError> {
        if !text.ends_with('\n') || text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Form("its text ends with a newline and has no other control characters"));
        }
        let verifier = self.verifier(name)?;
        let signature = [&verifier.hash(), self.pair.sign(text.as_bytes()).as_ref()].concat();
        Ok(format!("{text}\n{DASH}{name} {}\n", STANDARD.encode(signature)))
    }
}

impl fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoteKey")
    }
}

impl VerifierKey {
    /// The Ed25519 key under this name.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, NoteError> {
        match name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control()) {
            true => Err(NoteError::Name(name.to_owned())),
            false => Ok(Self { name: name.to_owned(), public }),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note that this key has signed. Signatures by others are passed over.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::Form("it is too long"));
        }
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Form("it has control characters in it"));
        }
        let (text, signatures) =
            note.rsplit_once("\n\n").ok_or(NoteError::Form("no empty line before the signatures"))?;
        let text = note.get(..=text.len()).ok_or(NoteError::Form("no text"))?; // with its newline
        let signatures =
            signatures.strip_suffix('\n').ok_or(NoteError::Form("no newline behind the signatures"))?;
        let mut unsigned = Err(NoteError::Unsigned(self.name.clone()));
        for line in signatures.split('\n') {
            let (name, encoded) = line
                .strip_prefix(DASH)
                .and_then(|line| line.split_once(' '))
                .ok_or(NoteError::Form("a line behind the text that is no signature"))?;
            let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::Form("a signature not in base64"))?;
            let (hash, signature) =
                bytes.split_first_chunk::<4>().ok_or(NoteError::Form("a signature that is too short"))?;
            if name != self.name || *hash != self.hash() {
                continue;
            }
            let key = UnparsedPublicKey::new(&ED25519, self.public);
            key.verify(text.as_bytes(), signature).map_err(|_| NoteError::Signature(self.name.clone()))?;
            unsigned = Ok(text);
        }
        unsigned
    }

    /// The first bytes of a hash over name, type and key.
    fn hash(&self) -> [u8; 4] {
        let hashed = [self.name.as_bytes(), b"\n", &[ED25519_TYPE], &self.public].concat();
        let mut hash = [0; 4];
        hash.copy_from_slice(&digest(&SHA256, &hashed).as_ref()[..4]);
        hash
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_TYPE], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.hash()), STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+'); // base64 has plus signs too
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let key = STANDARD.decode(key).map_err(|_| NoteError::Key)?;
        let public = key.strip_prefix(&[ED25519_TYPE]).and_then(|key| <[u8; 32]>::try_from(key).ok());
        let verifier = Self::new(name, public.ok_or(NoteError::Key)?)?;
        if hex::encode(verifier.hash()) == hash { Ok(verifier) } else { Err(NoteError::Key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> NoteKey {
        NoteKey::from_seed(Zeroizing::new([seed; 32]))
    }

    #[test]
    fn a_note_opens_with_the_key_that_signed_it() {
        let note = key(1).sign("acme.example/log", "one\n\ntwo\n").unwrap();
        let verifier = key(1).verifier("acme.example/log").unwrap();
        assert_eq!(verifier.open(&note).unwrap(), "one\n\ntwo\n");
        let read: VerifierKey = verifier.to_string().parse().unwrap();
        assert_eq!(read, verifier);
        let other = key(2).verifier("acme.example/log").unwrap();
        assert!(matches!(other.open(&note), Err(NoteError::Unsigned(_))));
        let renamed = key(1).verifier("acme.example/other").unwrap();
        assert!(matches!(renamed.open(&note), Err(NoteError::Unsigned(_))));
        assert!(matches!(verifier.open(&note.replace("two", "ten")), Err(NoteError::Signature(_))));
    }

    #[test]
    fn signatures_by_others_are_passed_over_and_rubbish_is_not() {
        let note = key(1).sign("a", "text\n").unwrap();
        let other = key(2).sign("b", "text\n").unwrap();
        let both = format!("{note}{}", other.rsplit_once("\n\n").unwrap().1);
        assert_eq!(key(1).verifier("a").unwrap().open(&both).unwrap(), "text\n");
        assert_eq!(key(2).verifier("b").unwrap().open(&both).unwrap(), "text\n");
        for bad in ["", "text\n", "text\n\n", "text\n\nno line\n", "te\u{7}xt\n\n", &note[..note.len() - 1]] {
            assert!(matches!(key(1).verifier("a").unwrap().open(bad), Err(NoteError::Form(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_key_and_the_note_of_the_go_documentation_are_understood() {
        // https://pkg.go.dev/golang.org/x/mod/sumdb/note
        let verifier: VerifierKey =
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert!(verifier.open(note).unwrap().starts_with("If you think"));
    }
}
