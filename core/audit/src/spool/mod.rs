//! How a node's chain lies on disk: segments of one size, each with a header and frames behind it.
//!
//! | file | holds |
//! |---|---|
//! | `frame` | a record with its length, its place, its checksum and what is sealed beside it |
//! | `segment` | the header of a segment, and the frames that can be read from it |
//! | `recover` | what is left of a spool after a crash, and what is wrong with it otherwise |
//!
//! A segment is filled with zeros when it is made, so that its room is there when the disk is full.

pub mod frame;
pub mod recover;
pub mod segment;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use frame::{FRAME_HEADER, Frame, MAX_FRAME};
pub use recover::{Damage, Found, Recovered, What, recover};
pub use segment::{SEGMENT_HEADER, SegmentHeader};

/// Tells one spool of a node from another: new when a spool is begun.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SpoolId(pub [u8; 16]);

impl SpoolId {
    /// The spool of these 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).ok().map(|()| Self(id))
    }
}

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for SpoolId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpoolId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| de::Error::custom("not 32 hexadecimal digits"))
    }
}
