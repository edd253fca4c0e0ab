//! Hashes as RFC 6962 section 2.1 makes them: those of leaves and those of nodes can never be the same.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A SHA-256 hash of a leaf or a node; in texts as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of a leaf, which is also what a chain calls a record by.
    pub fn leaf(entry: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[0]);
        context.update(entry);
        Self::finish(context)
    }

    /// The hash of a node over two others.
    pub fn node(left: Self, right: Self) -> Self {
        let mut bytes = [1; 65];
        bytes[1..33].copy_from_slice(&left.0);
        bytes[33..].copy_from_slice(&right.0);
        Self::of(&bytes)
    }

    /// The root of a tree without leaves.
    pub fn empty() -> Self {
        Self::of(b"")
    }

    fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }

    fn finish(context: Context) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }

    /// The hash that these 64 hexadecimal digits say.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok().map(|()| Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| de::Error::custom("not 64 hexadecimal digits"))
    }
}
