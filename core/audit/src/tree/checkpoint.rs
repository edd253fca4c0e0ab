//! Checkpoints (C2SP tlog-checkpoint): what a log signs of itself.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::note::{NoteError, NoteKey, VerifierKey};
use crate::Hash;

/// The size and the root of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// Which log; also the name of its key.
    pub origin: String,
    /// The number of its entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The signed note.
    pub fn sign(&self, key: &NoteKey) -> Result<String, NoteError> {
        key.sign(&self.origin, &self.to_string())
    }

    /// The checkpoint in a note that this key has signed, of the log that the key is named after.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        let checkpoint = Self::parse(key.open(note)?)?;
        match checkpoint.origin == key.name() {
            true => Ok(checkpoint),
            false => Err(NoteError::Form("it is of another log than its key")),
        }
    }

    fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Form("a checkpoint has three lines"));
        };
        let plain =
            size.bytes().all(|digit| digit.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
        let size = size.parse().ok().filter(|_| plain).ok_or(NoteError::Form("its size is no number"))?;
        let root = STANDARD.decode(root).ok().and_then(|root| <[u8; 32]>::try_from(root).ok());
        let root = Hash(root.ok_or(NoteError::Form("its root is no hash"))?);
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(NoteError::Form("a checkpoint has no empty lines"));
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, root } = self;
        write!(f, "{origin}\n{size}\n{}\n", STANDARD.encode(root.0))
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn a_checkpoint_survives_its_note_and_no_other_form_is_one() {
        let key = NoteKey::from_seed(Zeroizing::new([1; 32]));
        let checkpoint = Checkpoint { origin: "acme.example/audit".to_owned(), size: 7, root: Hash([3; 32]) };
        let verifier = key.verifier("acme.example/audit").unwrap();
        assert_eq!(Checkpoint::open(&checkpoint.sign(&key).unwrap(), &verifier), Ok(checkpoint.clone()));
        let root = STANDARD.encode([3; 32]);
        for bad in [
            "acme.example/audit\n7\n".to_owned(),
            format!("acme.example/audit\n07\n{root}\n"),
            format!("acme.example/audit\n+7\n{root}\n"),
            format!("acme.example/audit\n7\n{root}\n\nx\n"),
            format!("other.example\n7\n{root}\n"),
            "acme.example/audit\n7\nAAAA\n".to_owned(),
        ] {
            let note = key.sign("acme.example/audit", &bad).unwrap();
            assert!(Checkpoint::open(&note, &verifier).is_err(), "{bad}");
        }
    }
}
