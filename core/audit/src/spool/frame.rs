//! Frames: a record as it lies in a segment.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the record |
//! | 4 | length of what is sealed beside it |
//! | 8 | the record's number |
//! | 8 | the newest record that was durable when this frame was written |
//! | 32 | hash of the record |
//! | 8 | checksum of all that and of what is sealed |
//! | … | the record, then what is sealed |
//!
//! Numbers are big-endian. By the fourth field recovery tells what a crash left behind from what somebody
//! has altered: frames that were written together may reach the disk in any order, others may not.

use aws_lc_rs::digest::{Context, SHA256};

use crate::{Hash, MAX_RECORD, keys::MAX_SEALED};

/// The length of what stands before a record.
pub const FRAME_HEADER: usize = 64;
/// A frame's bytes at most.
pub const MAX_FRAME: usize = FRAME_HEADER + MAX_RECORD + MAX_SEALED;

/// A record with its place, borrowed from a segment or on its way into one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// The record's number.
    pub seq: u64,
    /// The newest record that was durable when this one was written.
    pub synced: u64,
    /// The record's hash.
    pub hash: Hash,
    /// The record.
    pub leaf: &'a [u8],
    /// What is sealed beside it; empty where nothing is.
    pub sealed: &'a [u8],
}

/// What is at a place where a frame could begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At<'a> {
    /// A whole frame, and it is what it says it is.
    Frame(Frame<'a>),
    /// Zeros, or the end of the segment: no frame was ever here.
    Nothing,
    /// Something else.
    Rubbish,
}

impl<'a> Frame<'a> {
    /// Its bytes.
    pub fn len(&self) -> usize {
        FRAME_HEADER + self.leaf.len() + self.sealed.len()
    }

    /// Never: a frame has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Appends it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        out.extend_from_slice(&length(self.leaf));
        out.extend_from_slice(&length(self.sealed));
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.synced.to_be_bytes());
        out.extend_from_slice(&self.hash.0);
        let check = check(&out[begin..], self.sealed);
        out.extend_from_slice(&check);
        out.extend_from_slice(self.leaf);
        out.extend_from_slice(self.sealed);
    }

    /// Looks at the beginning of `bytes`.
    pub fn read(bytes: &'a [u8]) -> At<'a> {
        let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER>() else {
            return if bytes.iter().all(|byte| *byte == 0) { At::Nothing } else { At::Rubbish };
        };
        if header == &[0; FRAME_HEADER] {
            return At::Nothing;
        }
        let number = |at: usize| header[at..at + 8].try_into().map(u64::from_be_bytes).unwrap_or_default();
        let length = |at: usize| {
            let length = header[at..at + 4].try_into().map(u32::from_be_bytes).unwrap_or_default();
            usize::try_from(length).unwrap_or(usize::MAX)
        };
        let (record, sealed) = (length(0), length(4));
        if record > MAX_RECORD || sealed > MAX_SEALED || rest.len() < record + sealed {
            return At::Rubbish;
        }
        let (leaf, rest) = rest.split_at(record);
        let sealed = &rest[..sealed];
        let mut hash = Hash::default();
        hash.0.copy_from_slice(&header[24..56]);
        match check(&header[..56], sealed) == header[56..] && Hash::leaf(leaf) == hash {
            true => At::Frame(Self { seq: number(8), synced: number(16), hash, leaf, sealed }),
            false => At::Rubbish,
        }
    }
}

/// The first eight bytes of a hash: against accidents. Against people the chain and its heads stand.
fn check(header: &[u8], sealed: &[u8]) -> [u8; 8] {
    let mut context = Context::new(&SHA256);
    context.update(header);
    context.update(sealed);
    let digest = context.finish();
    let mut check = [0; 8];
    check.copy_from_slice(&digest.as_ref()[..8]);
    check
}
