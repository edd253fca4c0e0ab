//! SHA-256 digests, as objects name keys and secrets by them.

use std::{fmt, str::FromStr};

use aws_lc_rs::{constant_time, digest};

use super::TextError;

/// A SHA-256 digest; 64 lower-case hexadecimal digits in JSON.
#[derive(Clone, Copy, serde::Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(out)
    }

    /// Whether both are the same, in time that does not tell where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl FromStr for Sha256 {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong =
            || TextError { text: text.to_owned(), says: "is not a SHA-256 digest: 64 hexadecimal digits" };
        let mut out = [0; 32];
        hex::decode_to_slice(text, &mut out).map_err(|_| wrong())?;
        Ok(Self(out))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
