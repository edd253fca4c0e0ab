//! Recovery: what is left of a spool, and what is wrong with it.
//!
//! A crash leaves the last frames half written; they were never acknowledged and are cut off. Everything
//! else that does not fit is damage, and is named.

use std::fmt;

use super::{
    SpoolId,
    segment::{Begins, End, SegmentHeader},
};
use crate::{Chain, Hash, Head};

/// What is left of a spool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recovered {
    /// Which one.
    pub spool: SpoolId,
    /// The number of the oldest record that is here.
    pub first: u64,
    /// The last record that is here; the one before `first` where there is none.
    pub last: u64,
    /// Its hash.
    pub head: Hash,
    /// In which segment the next frame goes, by its place in what was given.
    pub segment: usize,
    /// Where in it.
    pub offset: usize,
    /// Bytes of half-written frames behind that.
    pub torn: usize,
    /// What else is wrong.
    pub damage: Option<Damage>,
}

/// What recovery finds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found {
    /// No spool at all.
    Nothing,
    /// One.
    Spool(Recovered),
    /// Something that no spool can be made of.
    Unreadable(Damage),
}

/// Something that no crash leaves behind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The first record that is not as it was.
    pub seq: u64,
    /// What is wrong with it.
    pub what: What,
}

/// What is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// It was altered.
    Altered,
    /// It is not here, and a later one is.
    Missing {
        /// The next one that is here.
        found: u64,
    },
    /// In its place is an earlier one.
    Misplaced {
        /// Which.
        found: u64,
    },
    /// It names another one as the one before.
    Unlinked,
    /// It is not here, and the node has signed that it was.
    CutOff {
        /// The last one that it signed for.
        signed: u64,
    },
    /// The node has signed another one in its place.
    Replaced,
    /// The head that the node signed is of another spool.
    OtherSpool,
    /// The header of its segment was altered.
    Header,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seq = self.seq;
        match &self.what {
            What::Altered => write!(f, "record {seq} was altered"),
            What::Missing { found } if *found == seq + 1 => write!(f, "record {seq} is missing"),
            What::Missing { found } => write!(f, "records {seq} to {} are missing", found - 1),
            What::Misplaced { found } => write!(f, "record {found} stands in the place of record {seq}"),
            What::Unlinked => write!(f, "record {seq} does not follow the record before it"),
            What::CutOff { signed } => {
                write!(f, "the end is missing from record {seq} on: the node signed for {signed}")
            }
            What::Replaced => write!(f, "record {seq} is not the one that the node signed for"),
            What::OtherSpool => write!(f, "the node signed for another spool than this one"),
            What::Header => write!(f, "the header of the segment that begins with record {seq} was altered"),
        }
    }
}

/// Reads the segments of a spool in their order. `signed` is the newest head that the node has signed
/// and kept, after its signature was verified; `acknowledged` the last record that its server has.
pub fn recover(segments: &[&[u8]], signed: Option<&Head>, acknowledged: u64) -> Found {
    let mut recovered: Option<Recovered> = None;
    let mut signed_hash = None;
    for (index, segment) in segments.iter().enumerate() {
        let header = match SegmentHeader::read(segment) {
            Begins::With(header) => header,
            Begins::Spare if segment.iter().all(|byte| *byte == 0) => continue,
            Begins::Spare | Begins::Rubbish => {
                // A header is synced before a frame goes behind it, so a torn one has none.
                if is_torn_header(segment) {
                    continue;
                }
                return damaged(recovered, What::Header);
            }
        };
        match &mut recovered {
            None if header.first > acknowledged + 1 => {
                let what = What::Missing { found: header.first };
                return Found::Unreadable(Damage { seq: acknowledged + 1, what });
            }
            None => {}
            Some(before) if before.spool != header.spool => return damaged(recovered, What::OtherSpool),
            // The segment before was synced whole before this one was begun.
            Some(before) if before.torn > 0 => return damaged(recovered, What::Altered),
            Some(before) if before.last + 1 < header.first => {
                return damaged(recovered, What::Missing { found: header.first });
            }
            Some(before) if before.last + 1 > header.first => {
                return damaged(recovered, What::Misplaced { found: header.first });
            }
            Some(before) if before.head != header.before => return damaged(recovered, What::Unlinked),
            Some(_) => {}
        }
        let frames = header.frames(segment);
        let (last, head) = frames
            .frames
            .last()
            .map_or((header.first.saturating_sub(1), header.before), |(_, frame)| (frame.seq, frame.hash));
        let wanted = signed.map(|head| head.seq);
        let found = frames.frames.iter().find(|(_, frame)| Some(frame.seq) == wanted);
        signed_hash = found.map(|(_, frame)| frame.hash).or(signed_hash);
        if wanted == Some(header.first.saturating_sub(1)) {
            signed_hash = Some(header.before);
        }
        let first = recovered.as_ref().map_or(header.first, |before| before.first);
        let torn = if let End::Torn { bytes } = frames.why { bytes } else { 0 };
        let at = Recovered {
            spool: header.spool,
            first,
            last,
            head,
            segment: index,
            offset: frames.end,
            torn,
            damage: None,
        };
        let what = match frames.why {
            End::Clean | End::Torn { .. } => None,
            End::Altered => Some(What::Altered),
            End::Unlinked => Some(What::Unlinked),
            End::Misplaced { found } if found > last => Some(What::Missing { found }),
            End::Misplaced { found } => Some(What::Misplaced { found }),
        };
        recovered = Some(at);
        if let Some(what) = what {
            return damaged(recovered, what);
        }
    }
    let Some(mut recovered) = recovered else {
        return match signed {
            None if acknowledged == 0 => Found::Nothing,
            None => Found::Unreadable(Damage { seq: 1, what: What::CutOff { signed: acknowledged } }),
            Some(head) => Found::Unreadable(Damage { seq: 1, what: What::CutOff { signed: head.seq } }),
        };
    };
    recovered.damage = signed.and_then(|head| contradiction(&recovered, head, signed_hash));
    Found::Spool(recovered)
}

/// What a signed head shows to be wrong.
fn contradiction(recovered: &Recovered, signed: &Head, found: Option<Hash>) -> Option<Damage> {
    if signed.spool != recovered.spool {
        return Some(Damage { seq: recovered.first, what: What::OtherSpool });
    }
    if signed.seq > recovered.last {
        return Some(Damage { seq: recovered.last + 1, what: What::CutOff { signed: signed.seq } });
    }
    // An older head is of records that were acknowledged and are gone.
    let replaced = found.is_some_and(|hash| hash != signed.hash);
    replaced.then_some(Damage { seq: signed.seq, what: What::Replaced })
}

fn damaged(recovered: Option<Recovered>, what: What) -> Found {
    match recovered {
        Some(mut recovered) => {
            recovered.damage = Some(Damage { seq: recovered.last + 1, what });
            Found::Spool(recovered)
        }
        None => Found::Unreadable(Damage { seq: 1, what }),
    }
}

/// A crash while a header was written leaves part of a header and nothing behind it.
fn is_torn_header(segment: &[u8]) -> bool {
    segment.get(super::SEGMENT_HEADER..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0))
}

impl Recovered {
    /// The chain as it goes on.
    pub fn chain(&self, node: Option<String>) -> Chain {
        Chain::after(node, self.last, self.head)
    }
}

#[cfg(test)]
mod tests;
