//! SPIFFE IDs and trust domains, good and not quite.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::damaged;

/// A SPIFFE ID, or something that looks like one.
pub(super) fn id(random: &mut StdRng) -> Vec<u8> {
    let scheme = *["spiffe://"; 12].iter().chain(&SCHEMES).collect::<Vec<_>>().choose(random).expect("some");
    let segments = random.random_range(0..4);
    let mut id = format!("{scheme}{}", name(random));
    for _ in 0..segments {
        id.push('/');
        id.push_str(&segment(random));
    }
    match random.random_range(0..10) {
        0..=5 => id.into_bytes(),
        6 => {
            // around the longest that must be supported
            let missing = random.random_range(2_046_usize..2_051).saturating_sub(id.len() + 1);
            format!("{id}/{}", "a".repeat(missing)).into_bytes()
        }
        _ => damaged(random, id.as_bytes(), ODD),
    }
}

/// A trust domain's name, or something that looks like one.
pub(super) fn trust_domain(random: &mut StdRng) -> Vec<u8> {
    let name = name(random);
    match random.random_range(0..8) {
        0..=3 => name.into_bytes(),
        4 => "a".repeat(random.random_range(254..258)).into_bytes(),
        5 => id(random),
        _ => damaged(random, name.as_bytes(), ODD),
    }
}

fn name(random: &mut StdRng) -> String {
    match random.random_range(0..12) {
        0 => (*NAMES.choose(random).expect("some")).to_owned(),
        1 => "a".repeat(random.random_range(253..258)),
        _ => text(random, b"abcxyz0189.-_", 1..16),
    }
}

fn segment(random: &mut StdRng) -> String {
    match random.random_range(0..14) {
        0 => (*SEGMENTS.choose(random).expect("some")).to_owned(),
        _ => text(random, b"abXYZ019.-_", 1..12),
    }
}

fn text(random: &mut StdRng, alphabet: &[u8], length: std::ops::Range<usize>) -> String {
    let length = random.random_range(length);
    (0..length).map(|_| char::from(*alphabet.choose(random).expect("some"))).collect()
}

const SCHEMES: [&str; 8] =
    ["SPIFFE://", "Spiffe://", "spiffe:/", "spiffe:", "http://", "spiffe:///", "spiffe://user@", ""];
const NAMES: [&str; 12] = [
    "Acme.example",
    "10.0.0.1",
    "[::1]",
    "a:80",
    "a@b",
    "a%62",
    ".",
    "..",
    "-",
    "_",
    "xn--bcher-kva.example",
    "ü",
];
const SEGMENTS: [&str; 9] = ["", ".", "..", "...", "%2e", "%2F", "a b", "~", "ü"];
/// What damage puts in.
const ODD: &[u8] = b"/.%:?#@A\0\xff \\~";
