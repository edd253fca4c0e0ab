use proptest::prelude::*;
use spiffe::Timestamp;

use super::*;
use crate::{
    Kind, Record,
    spool::{Frame, SEGMENT_HEADER},
};

const ID: SpoolId = SpoolId([5; 16]);
const SEGMENT: usize = 16 * 1024;

/// A spool of so many records in groups of three, as a writer makes it, and its head.
fn spool(records: u64) -> (Vec<Vec<u8>>, Head) {
    let mut chain = Chain::new(Some("n".to_owned()));
    let (mut segments, mut segment, mut synced) = (Vec::new(), begin(&chain), 0);
    for n in 1..=records {
        let record = Record {
            task: Some(format!("task-{}", n % 7)),
            reason: Some("x".repeat((n * 37 % 300) as usize)),
            ..Record::new(Kind::Decision, Timestamp::from_unix_millis(n as i64))
        };
        let link = chain.link(&record).unwrap();
        let sealed = if n.is_multiple_of(4) { vec![n as u8; 50] } else { Vec::new() };
        if n % 3 == 1 {
            synced = n - 1;
        }
        let frame = Frame { seq: link.seq, synced, hash: link.hash, leaf: &link.leaf, sealed: &sealed };
        if segment.len() + frame.len() > SEGMENT {
            segment.resize(SEGMENT, 0);
            segments.push(std::mem::replace(&mut segment, begin(&chain)));
            synced = n - 1;
        }
        let frame = Frame { synced, ..frame };
        frame.write(&mut segment);
        chain.take(&link);
    }
    segment.resize(SEGMENT, 0);
    segments.push(segment);
    segments.push(vec![0; SEGMENT]); // the spare one
    let at = Timestamp::from_unix_seconds(1);
    let head = Head { node: "n".to_owned(), spool: ID, seq: chain.last(), hash: chain.head(), at };
    (segments, head)
}

fn begin(chain: &Chain) -> Vec<u8> {
    SegmentHeader { spool: ID, first: chain.last() + 1, before: chain.head() }.to_bytes().to_vec()
}

fn look(segments: &[Vec<u8>], head: Option<&Head>) -> Found {
    recover(&segments.iter().map(Vec::as_slice).collect::<Vec<_>>(), head, 0)
}

/// Where the frames of a spool lie: segment, offset, length.
fn places(segments: &[Vec<u8>]) -> Vec<(usize, usize, usize)> {
    let mut places = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        if let Begins::With(header) = SegmentHeader::read(segment) {
            let frames = header.frames(segment).frames;
            places.extend(frames.iter().map(|(at, frame)| (index, *at, frame.len())));
        }
    }
    places
}

#[test]
fn a_whole_spool_is_recovered_as_it_was() {
    let (segments, head) = spool(200);
    let Found::Spool(found) = look(&segments, Some(&head)) else { panic!("nothing") };
    assert_eq!((found.first, found.last, found.head, found.damage), (1, 200, head.hash, None));
    assert!(segments.len() > 3 && found.segment == segments.len() - 2 && found.torn == 0);
    assert_eq!(look(&[], None), Found::Nothing);
}

#[test]
fn what_a_crash_left_half_written_is_cut_off_and_is_no_damage() {
    let (mut segments, _) = spool(200);
    let places = places(&segments);
    let (segment, at, length) = places[199]; // 199 and 200 were written together, after 198 was synced
    segments[segment][at + length / 2..].fill(0);
    let Found::Spool(found) = look(&segments, None) else { panic!("nothing") };
    assert_eq!((found.last, found.damage), (199, None));
    assert!(found.torn > 0);
    // The two may have reached the disk in any order.
    let (segments_again, _) = spool(200);
    let mut segments = segments_again;
    let (segment, at, length) = places[198];
    segments[segment][at..at + length].fill(0);
    let Found::Spool(found) = look(&segments, None) else { panic!("nothing") };
    assert_eq!((found.last, found.damage), (198, None));
}

#[test]
fn each_kind_of_damage_is_named_with_the_record_that_it_begins_with() {
    let (segments, head) = spool(200);
    let places = places(&segments);
    let named = |segments: &[Vec<u8>]| match look(segments, Some(&head)) {
        Found::Spool(found) => found.damage.map(|damage| damage.to_string()),
        Found::Unreadable(damage) => Some(damage.to_string()),
        Found::Nothing => None,
    };
    let (segment, at, length) = places[100];
    let mut flipped = segments.clone();
    flipped[segment][at + length - 1] ^= 4;
    assert_eq!(named(&flipped).as_deref(), Some("record 101 was altered"));
    let mut deleted = segments.clone();
    deleted[segment].drain(at..at + length);
    deleted[segment].resize(SEGMENT, 0);
    assert_eq!(named(&deleted).as_deref(), Some("record 101 is missing"));
    let mut cut = segments.clone();
    let (segment, at, _) = places[195];
    cut[segment][at..].fill(0);
    cut.truncate(segment + 1);
    let expected = "the end is missing from record 196 on: the node signed for 200";
    assert_eq!(named(&cut).as_deref(), Some(expected));
    let mut without = segments.clone();
    without.remove(1);
    assert!(named(&without).unwrap().contains("missing"));
    let (other, _) = spool(199);
    assert!(named(&other).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn every_flip_deletion_swap_and_truncation_of_a_spool_is_found(kind in 0..4, a in 0_usize..60, b in 0_usize..60, bit in any::<prop::sample::Index>()) {
        let (segments, head) = SPOOL.with(Clone::clone);
        let places = PLACES.with(Clone::clone);
        let (mut changed, whole) = (segments.clone(), segments);
        let (segment, at, length) = places[a];
        match kind {
            0 => {
                let bit = bit.index(length * 8);
                changed[segment][at + bit / 8] ^= 1 << (bit % 8);
            }
            1 => {
                changed[segment].drain(at..at + length);
                changed[segment].resize(SEGMENT, 0);
            }
            2 => {
                let (other, from, other_length) = places[if a == b { (a + 1) % 60 } else { b }];
                let one = whole[segment][at..at + length].to_vec();
                let two = whole[other][from..from + other_length].to_vec();
                // The later one first, so that the other one's place stays.
                let mut swaps = [(segment, at, length, two), (other, from, other_length, one)];
                swaps.sort_by_key(|swap| std::cmp::Reverse((swap.0, swap.1)));
                for (segment, at, length, bytes) in swaps {
                    changed[segment].splice(at..at + length, bytes);
                    changed[segment].resize(SEGMENT, 0);
                }
            }
            _ => {
                changed[segment][at + bit.index(length)..].fill(0);
                changed.truncate(segment + 1);
            }
        }
        prop_assume!(changed != whole);
        let damage = match look(&changed, Some(&head)) {
            Found::Spool(found) => found.damage,
            Found::Unreadable(damage) => Some(damage),
            Found::Nothing => None,
        };
        prop_assert!(damage.is_some(), "kind {kind} at record {}", a + 1);
        let latest = if kind == 2 { a.min(b) } else { a };
        let named = damage.map(|damage| damage.seq);
        prop_assert!(named.is_some_and(|seq| seq <= latest as u64 + 1), "{:?}", named);
    }
}

thread_local! {
    static SPOOL: (Vec<Vec<u8>>, Head) = spool(60);
    static PLACES: Vec<(usize, usize, usize)> = SPOOL.with(|(segments, _)| places(segments));
}

#[test]
fn an_altered_header_is_named() {
    let (segments, head) = spool(100);
    for at in 0..SEGMENT_HEADER {
        let mut changed = segments.clone();
        changed[1][at] ^= 1;
        let Found::Spool(found) = look(&changed, Some(&head)) else { panic!("unreadable") };
        assert!(found.damage.is_some(), "byte {at}");
    }
}
