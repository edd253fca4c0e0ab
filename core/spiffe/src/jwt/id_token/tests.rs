//! What an ID token must be like to say who a machine is.

use serde_json::json;

use super::*;
use crate::{
    jwt::{Algorithm, testing::Signer},
    test_pki::NOW,
};

const ISSUER: &str = "https://ci.example";

fn claims() -> Value {
    let now = NOW.unix_seconds();
    json!({ "iss": ISSUER, "sub": "repo:acme/shop", "aud": "writ", "iat": now, "exp": now + 300, "ref": "main" })
}

fn keys(signer: &Signer) -> KeySet {
    let mut jwk = signer.jwk();
    jwk["kid"] = json!("k");
    KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap()
}

fn header(signer: &Signer, more: &str) -> String {
    format!(r#"{{"alg":"{}","kid":"k"{more}}}"#, signer.algorithm.name())
}

fn judged(signer: &Signer, header: &str, claims: &Value) -> Result<IdToken, JwtError> {
    let token = signer.token(header, &claims.to_string());
    validate(&Compact::parse_of_issuer(&token)?, ISSUER, "writ", &keys(signer), NOW)
}

#[test]
fn a_token_says_what_its_issuer_signed() {
    for algorithm in [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256] {
        let signer = Signer::new(algorithm);
        let token = judged(&signer, &header(&signer, r#","typ":"JWT""#), &claims()).unwrap();
        assert_eq!(token.subject, "repo:acme/shop");
        assert_eq!(Value::Object(token.claims), claims());
        assert!(token.until > NOW + Duration::from_secs(300 + 60), "as long as somebody could accept it");
    }
}

#[test]
fn the_thumbprint_that_some_issuers_put_into_the_header_is_passed_over_here_and_refused_in_svids() {
    let signer = Signer::new(Algorithm::RS256);
    let with_thumbprint = header(&signer, r#","x5t":"abc","typ":"JWT""#);
    assert!(judged(&signer, &with_thumbprint, &claims()).is_ok());
    let token = signer.token(&with_thumbprint, &claims().to_string());
    assert!(Compact::parse(&token).is_err());
    for name in ["jwk", "jku", "x5c", "x5u", "crit", "b64", "zip"] {
        let header = header(&signer, &format!(r#","{name}":"abc""#));
        assert!(judged(&signer, &header, &claims()).is_err(), "{name}");
    }
    let other_kind = header(&signer, r#","typ":"at+jwt""#);
    assert!(judged(&signer, &other_kind, &claims()).is_err());
}

#[test]
fn a_token_of_another_issuer_audience_or_time_is_refused() {
    let signer = Signer::new(Algorithm::ES256);
    let now = NOW.unix_seconds();
    for (name, value) in [
        ("iss", json!("https://other.example")),
        ("iss", json!("https://ci.example/")),
        ("iss", json!(null)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("aud", json!(["writ", "other"])),
        ("aud", json!({ "writ": true })),
        ("exp", json!(now - 61)),
        ("exp", json!(now + 25 * 3600)),
        ("exp", json!("soon")),
        ("exp", json!(null)),
        ("nbf", json!(now + 61)),
        ("iat", json!(now + 61)),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        assert!(judged(&signer, &header(&signer, ""), &claims).is_err(), "{name}: {value}");
        claims.as_object_mut().unwrap().remove(name);
        let is_needed = matches!(name, "iss" | "sub" | "aud" | "exp");
        assert_eq!(judged(&signer, &header(&signer, ""), &claims).is_err(), is_needed, "without {name}");
    }
    let mut one = claims();
    one["aud"] = json!(["writ"]);
    assert!(judged(&signer, &header(&signer, ""), &one).is_ok(), "a list of one is one");
}

#[test]
fn a_token_signed_by_nobody_or_by_another_key_is_refused() {
    let (signer, other) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let token = other.token(&header(&other, ""), &claims().to_string());
    let token = Compact::parse_of_issuer(&token).unwrap();
    assert_eq!(validate(&token, ISSUER, "writ", &keys(&signer), NOW), Err(JwtError::Signature));
    assert_eq!(unverified_issuer(&token).as_deref(), Some(ISSUER), "it is good for choosing keys");
    assert!(Compact::parse_of_issuer("e30.e30.").is_err());
}

#[test]
fn whatever_character_of_a_token_changes_what_it_says_is_the_same_or_nothing() {
    let signer = Signer::new(Algorithm::ES256);
    let token = signer.token(&header(&signer, ""), &claims().to_string());
    let keys = keys(&signer);
    let read = |token: &str| validate(&Compact::parse_of_issuer(token)?, ISSUER, "writ", &keys, NOW);
    let good = read(&token).unwrap();
    for n in 0..token.len() {
        for letter in [b'A', b'z', b'-', b'.', b'='] {
            let mut changed = token.clone().into_bytes();
            changed[n] = letter;
            let changed = String::from_utf8(changed).unwrap();
            if let Ok(said) = read(&changed) {
                assert_eq!(said, good, "character {n} became {}", char::from(letter));
            }
        }
    }
}
