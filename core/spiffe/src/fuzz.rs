//! Good input, changed in a few places: IDs, bundles, key sets, tokens, certificates.
//!
//! Nothing may panic, and whatever is still accepted must mean what it meant. The changes know the
//! words of each format, but no coverage guides them: that would need a compiler of another day.
//! `cargo xtask fuzz` multiplies the number of cases; `cargo xtask test` gives each format a minute.

use std::time::{Duration, Instant};

use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{TestCaseResult, TestRunner},
};
use rustls_pki_types::CertificateDer;
use serde_json::json;

use crate::{
    Bundle, JwtAuthority, SpiffeId,
    jwt::{
        Algorithm, Compact, KeySet,
        svid::validate,
        testing::{Signer, claims},
    },
    test_pki::{Authority, NOW, bundle, bundles},
    x509::{Certificate, svid},
};

const ID: &str = "spiffe://acme.example/web";

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Put(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

fn changes(words: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<Change>> {
    let word = prop_oneof![proptest::sample::select(words).prop_map(<[u8]>::to_vec), vec(any::<u8>(), 1..4),];
    let change = prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Put(at, byte)),
        (any::<Index>(), word).prop_map(|(at, word)| Change::Insert(at, word)),
        (any::<Index>(), 1..12_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        any::<Index>().prop_map(Change::Cut),
    ];
    vec(change, 1..4)
}

fn changed(good: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for change in changes {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match change {
            Change::Flip(index, bit) => {
                let at = at(index);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
            }
            Change::Put(index, new) => {
                let at = at(index);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = *new);
            }
            Change::Insert(index, word) => {
                let at = at(index);
                drop(bytes.splice(at..at, word.iter().copied()));
            }
            Change::Remove(index, length) => {
                let at = at(index);
                bytes.drain(at..bytes.len().min(at + length));
            }
            Change::Repeat(index, length) => {
                let at = at(index);
                let again = bytes[at..bytes.len().min(at + length)].to_vec();
                drop(bytes.splice(at..at, again));
            }
            Change::Cut(index) => bytes.truncate(at(index)),
        }
    }
    bytes
}

/// Asks `holds` of so many times the cases that a property usually has: 256, or what `cargo xtask fuzz`
/// asks for. Then goes on until this property's part of the time that its format has is over.
fn fuzz<S: Strategy>(times: u32, part: f32, made: S, holds: impl Fn(S::Value) -> TestCaseResult) {
    let seconds = std::env::var("WRIT_FUZZ_SECONDS").map_or(0, |text| text.parse().expect("whole seconds"));
    let until = Instant::now() + Duration::from_secs(seconds).mul_f32(part);
    let mut config = ProptestConfig::default();
    config.cases = config.cases.saturating_mul(times);
    config.source_file = Some(file!());
    loop {
        if let Err(failure) = TestRunner::new(config.clone()).run(&made, &holds) {
            panic!("{failure}");
        }
        if Instant::now() >= until {
            return;
        }
        config.cases = 1000;
    }
}

const ID_WORDS: &[&[u8]] =
    &[b"/", b"//", b".", b"..", b"/../", b"%2e", b":", b"@", b"?", b"#", b"\0", b"spiffe://", b"A"];
const JSON_WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"null",
    b"-",
    b"1e999",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"{\"a\":",
    b"\"alg\":\"none\",",
    b"\"use\":",
    b"\"jwt-svid\"",
    b"\"kid\":\"k\",",
    b"\"kty\":\"oct\",",
    b"\"exp\":1,",
    b"\"x5c\":[],",
    b"\"sub\":\"spiffe://acme.example/admin\",",
    b"99999999999999999999",
];
const TOKEN_WORDS: &[&[u8]] = &[b".", b"..", b"=", b"A", b"eyJhbGciOiJub25lIn0", b"\n", b"{}", b"_", b"-"];
const DER_WORDS: &[&[u8]] = &[
    b"\x30\x80",
    b"\x30\x00",
    b"\x05\x00",
    b"\x02\x01\x00",
    b"\x84\xff\xff\xff\xff",
    b"\x30\x82\xff\xff",
    b"\x01\x01\xff",
    b"\x06\x03\x55\x1d\x11",
    b"\x06\x03\x55\x1d\x0f",
    b"\x86\x19spiffe://acme.example/web",
    b"\x03\x01\x00",
    b"\xa3",
];

#[test]
fn whatever_becomes_of_an_id_it_is_one_or_is_refused() {
    fuzz(100, 1.0, changes(ID_WORDS), |changes| {
        let Ok(text) = String::from_utf8(changed(ID.as_bytes(), &changes)) else { return Ok(()) };
        if let Ok(id) = text.parse::<SpiffeId>() {
            prop_assert_eq!(id.as_str(), &text, "an ID is never normalised into another");
            prop_assert!(!text.contains("//") || text.matches("//").count() == 1);
            prop_assert!(!text.contains(['%', '?', '#', '@', '\0']) && !text.ends_with('/'));
            prop_assert!(!id.path().split('/').any(|segment| segment == "." || segment == ".."));
            prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain_name(), id.path()), text);
        }
        Ok(())
    });
}

#[test]
fn whatever_becomes_of_a_bundle_it_reads_the_same_once_more() {
    let mut good = bundle("acme.example", &[&Authority::root("root", |_| {}).der]);
    for (kid, algorithm) in [("e", Algorithm::ES384), ("r", Algorithm::RS256)] {
        good.jwt_authorities.push(JwtAuthority { kid: kid.to_owned(), key: Signer::new(algorithm).key() });
    }
    let document = good.to_document().unwrap();
    fuzz(40, 1.0, changes(JSON_WORDS), |changes| {
        let document = changed(&document, &changes);
        let _ = KeySet::parse(&document);
        let _ = Bundle::parse_jwt(good.trust_domain.clone(), &document);
        if let Ok(read) = Bundle::parse(good.trust_domain.clone(), &document) {
            let again =
                read.to_document().map(|document| Bundle::parse(good.trust_domain.clone(), &document));
            prop_assert_eq!(again.unwrap(), Ok(read));
        }
        Ok(())
    });
}

#[test]
fn no_changed_byte_of_a_token_goes_unnoticed() {
    let signer = Signer::new(Algorithm::ES256);
    let (token, bundles) = (signer.svid(&claims()), signer.bundles());
    fuzz(40, 0.5, changes(TOKEN_WORDS), |changes| {
        let Ok(text) = String::from_utf8(changed(token.as_bytes(), &changes)) else { return Ok(()) };
        prop_assert_eq!(validate(&text, &["db"], &bundles, NOW).is_ok(), text == token, "{}", text);
        Ok(())
    });
}

#[test]
fn whatever_is_signed_a_token_says_whom_it_names_for_whom_and_how_long() {
    let signer = Signer::new(Algorithm::ES256);
    let bundles = signer.bundles();
    let header = json!({ "alg": "ES256", "kid": "k", "typ": "JWT" }).to_string();
    let claims = claims().to_string();
    let parts = (changes(JSON_WORDS), changes(JSON_WORDS), any::<bool>(), any::<bool>());
    fuzz(40, 0.5, parts, |(of_header, of_claims, header_too, claims_too)| {
        let header =
            if header_too { changed(header.as_bytes(), &of_header) } else { header.clone().into_bytes() };
        let claims =
            if claims_too { changed(claims.as_bytes(), &of_claims) } else { claims.clone().into_bytes() };
        let token = signer.token_of_bytes(&header, &claims);
        if let Ok(valid) = validate(&token, &["db"], &bundles, NOW) {
            let said = |name: &str| valid.claims.get(name).cloned().unwrap_or_default();
            prop_assert_eq!(said("sub"), valid.spiffe_id.as_str());
            prop_assert!(
                valid.spiffe_id.trust_domain_name() == "acme.example" && !valid.spiffe_id.path().is_empty()
            );
            prop_assert!(
                said("aud") == "db" || said("aud").as_array().is_some_and(|aud| aud.contains(&json!("db")))
            );
            prop_assert!(said("exp").as_f64().is_some_and(|exp| exp + 60.0 >= NOW.unix_seconds() as f64));
            let header = Compact::parse(&token).map(|token| token.algorithm);
            prop_assert_eq!(header, Ok(Algorithm::ES256));
        }
        Ok(())
    });
}

#[test]
fn whatever_becomes_of_a_chain_nobody_else_is_named_by_it() {
    let root = Authority::root("root", |_| {});
    let intermediate = root.intermediate("intermediate", |_| {});
    let leaf = intermediate.leaf(ID, |_| {}).der;
    let good = [leaf, intermediate.der.clone(), root.der.clone()];
    let trusted = bundles("acme.example", &[&root.der]);
    fuzz(10, 0.5, (0..3_usize, changes(DER_WORDS)), |(which, changes)| {
        let mut ders = good.clone();
        ders[which] = CertificateDer::from(changed(&good[which], &changes));
        let _ = Certificate::parse(&ders[which]);
        let by_the_good_root = svid::verify(&ders[..2], &trusted, NOW);
        prop_assert_eq!(by_the_good_root.is_ok(), ders[..2] == good[..2], "a change goes unnoticed");
        // A root is trusted as it comes, so a changed one may still vouch, but for nobody else.
        if let Ok(id) = svid::verify(&ders[..2], &bundles("acme.example", &[&ders[2]]), NOW) {
            prop_assert_eq!(id.as_str(), ID);
        }
        Ok(())
    });
}

#[test]
fn whatever_becomes_of_a_public_key_it_does_not_panic_and_verifies_nothing_new() {
    let signers = [Algorithm::ES256, Algorithm::PS256].map(Signer::new);
    let good = signers.each_ref().map(Signer::public_key);
    fuzz(20, 0.5, (0..2_usize, changes(DER_WORDS)), |(which, changes)| {
        let der = changed(&good[which], &changes);
        if let Some(keys) = KeySet::from_public_key(&der) {
            let algorithm = signers[which].algorithm;
            prop_assert_eq!(keys.check_each(), Ok(()), "whatever is taken for a key may verify");
            let other = keys.only(algorithm).is_some_and(|key| *key != signers[which].key());
            prop_assert!(
                der == good[which] || other || keys.only(algorithm).is_none(),
                "two encodings of one key"
            );
        }
        Ok(())
    });
}
