//! Segments: a header that says where in which chain its frames go on, and the frames.

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    SpoolId,
    frame::{At, Frame},
};
use crate::{Hash, chain::Place};

/// The length of a segment's header.
pub const SEGMENT_HEADER: usize = 80;
const MAGIC: &[u8; 16] = b"writ spool v1\0\0\0";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentHeader {
    /// Of which spool it is.
    pub spool: SpoolId,
    /// The number of its first record.
    pub first: u64,
    /// The hash of the record before that.
    pub before: Hash,
}

/// What is at the beginning of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Begins {
    /// A header.
    With(SegmentHeader),
    /// Zeros: a spare segment.
    Spare,
    /// Something else.
    Rubbish,
}

/// A segment's frames as far as they are what they should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frames<'a> {
    /// In their order, with where each begins.
    pub frames: Vec<(usize, Frame<'a>)>,
    /// Where they end.
    pub end: usize,
    /// Why they end.
    pub why: End,
}

/// Why the frames of a segment end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Nothing but zeros follows.
    Clean,
    /// What follows was being written when a crash came.
    Torn {
        /// How many bytes of it are there.
        bytes: usize,
    },
    /// The frame that should be here was altered: later ones prove that it was durable.
    Altered,
    /// Here is a frame of another number.
    Misplaced {
        /// Which.
        found: u64,
    },
    /// The frame of this number names another one as the one before.
    Unlinked,
}

impl SegmentHeader {
    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..32].copy_from_slice(&self.spool.0);
        bytes[32..40].copy_from_slice(&self.first.to_be_bytes());
        bytes[40..72].copy_from_slice(&self.before.0);
        let check = digest(&SHA256, &bytes[..72]);
        bytes[72..].copy_from_slice(&check.as_ref()[..8]);
        bytes
    }

    /// Looks at the beginning of a segment.
    pub fn read(bytes: &[u8]) -> Begins {
        let Some(header) = bytes.first_chunk::<SEGMENT_HEADER>() else { return Begins::Rubbish };
        if header == &[0; SEGMENT_HEADER] {
            return Begins::Spare;
        }
        let mut read = Self { spool: SpoolId([0; 16]), first: 0, before: Hash::default() };
        read.spool.0.copy_from_slice(&header[16..32]);
        read.before.0.copy_from_slice(&header[40..72]);
        read.first = header[32..40].try_into().map(u64::from_be_bytes).unwrap_or_default();
        if read.to_bytes() == *header { Begins::With(read) } else { Begins::Rubbish }
    }

    /// The frames behind this header.
    pub fn frames<'a>(&self, segment: &'a [u8]) -> Frames<'a> {
        let (mut frames, mut at) = (Vec::new(), SEGMENT_HEADER);
        let (mut expected, mut before) = (self.first, self.before);
        let why = loop {
            let rest = segment.get(at..).unwrap_or_default();
            match Frame::read(rest) {
                At::Frame(frame) if frame.seq != expected => break End::Misplaced { found: frame.seq },
                At::Frame(frame) if !follows(&frame, before) => break End::Unlinked,
                At::Frame(frame) => {
                    frames.push((at, frame));
                    (at, expected, before) = (at + frame.len(), expected + 1, frame.hash);
                }
                At::Nothing | At::Rubbish => break after(rest, expected),
            }
        };
        Frames { frames, end: at, why }
    }
}

/// Whether the record says of itself what its frame says.
fn follows(frame: &Frame<'_>, before: Hash) -> bool {
    Place::of(frame.leaf).is_some_and(|place| place.seq == frame.seq && place.prev_hash == Some(before))
}

/// What is behind the last good frame.
fn after(rest: &[u8], expected: u64) -> End {
    let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { return End::Clean };
    // A frame that was written after the expected one was durable proves that it was altered since.
    let proves = |at: usize| match Frame::read(&rest[at..=last]) {
        At::Frame(frame) => frame.synced >= expected,
        At::Nothing | At::Rubbish => false,
    };
    if (1..=last).any(proves) { End::Altered } else { End::Torn { bytes: last + 1 } }
}
