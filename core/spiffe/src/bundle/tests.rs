//! The SPIFFE Trust Domain and Bundle standard, section 4, and the bundle sections of the SVID standards.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    PrivateKey,
    test_pki::{Authority, NOW, bundle},
    x509::svid,
};

fn parse(document: &Value) -> Result<Bundle, BundleError> {
    Bundle::parse("acme.example".parse().unwrap(), document.to_string().as_bytes())
}

fn parse_text(document: &str) -> Result<Bundle, BundleError> {
    Bundle::parse("acme.example".parse().unwrap(), document.as_bytes())
}

fn authority() -> CertificateDer<'static> {
    Authority::root("root", |_| {}).der
}

fn x509_key(der: &CertificateDer<'_>) -> Value {
    json!({ "kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(der)] })
}

fn jwt_key(kid: &str) -> (JwtAuthority, Value) {
    let public_key = PrivateKey::generate().unwrap().public_key().unwrap();
    let authority = JwtAuthority { kid: kid.to_owned(), key: Jwk::from_public_key(&public_key).unwrap() };
    let jwk = json!(jwt_jwk(&authority));
    (authority, jwk)
}

#[test]
fn a_bundle_survives_its_document() {
    let mut written = bundle("acme.example", &[&authority(), &authority()]);
    written.jwt_authorities = vec![jwt_key("a").0, jwt_key("b").0];
    written.sequence = Some(u64::MAX);
    written.refresh_hint = Some(300);
    let document = written.to_document().unwrap();
    assert_eq!(Bundle::parse(written.trust_domain.clone(), &document), Ok(written.clone()));
    assert_eq!(written.to_document().unwrap(), document, "the same bundle gives the same bytes");
    assert_eq!(bundle("acme.example", &[]).to_document().unwrap(), br#"{"keys":[]}"#);
}

#[test]
fn a_written_x509_authority_has_its_key_beside_it_and_no_kid() {
    let der = authority();
    let document: Value =
        serde_json::from_slice(&bundle("acme.example", &[&der]).to_document().unwrap()).unwrap();
    let key = &document["keys"][0];
    assert_eq!((&key["kty"], &key["crv"], &key["use"]), (&json!("EC"), &json!("P-256"), &json!("x509-svid")));
    assert_eq!(key["x5c"], json!([STANDARD.encode(&der)]));
    assert!(key["x"].is_string() && key["y"].is_string() && key.get("kid").is_none());
}

#[test]
fn authorities_of_every_kind_of_key_are_written_read_and_verified_with() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let root = Authority::root_with_key("root", rcgen::KeyPair::generate_for(algorithm).unwrap(), |_| {});
        let written = bundle("acme.example", &[&root.der]);
        let read = Bundle::parse(written.trust_domain.clone(), &written.to_document().unwrap()).unwrap();
        assert_eq!(read, written, "{algorithm:?}");
        let leaf = root.leaf("spiffe://acme.example/web", |_| {}).der;
        assert!(svid::verify(&[leaf], &[read].into_iter().collect(), NOW).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn keys_must_be_there_and_may_be_empty() {
    assert_eq!(parse(&json!({ "keys": [] })), Ok(Bundle::empty("acme.example".parse().unwrap())));
    for document in
        [json!({}), json!({ "keys": null }), json!({ "keys": {} }), json!([]), json!("keys"), json!(null)]
    {
        assert_eq!(parse(&document), Err(BundleError::NoKeys), "{document}");
    }
}

#[test]
fn sequence_and_refresh_hint_are_whole_numbers_of_64_bits() {
    let numbers =
        parse(&json!({ "keys": [], "spiffe_sequence": u64::MAX, "spiffe_refresh_hint": 0 })).unwrap();
    assert_eq!((numbers.sequence, numbers.refresh_hint), (Some(u64::MAX), Some(0)));
    for name in ["spiffe_sequence", "spiffe_refresh_hint"] {
        for value in ["-1", "1.5", "1e3", "\"1\"", "true", "[]", "18446744073709551616"] {
            let refused = parse_text(&format!(r#"{{"keys":[],"{name}":{value}}}"#));
            assert_eq!(refused, Err(BundleError::Number(name)), "{value}");
        }
    }
}

#[test]
fn a_key_of_unknown_use_or_type_is_passed_over_alone() {
    let der = authority();
    let passed_over = [
        json!({ "kty": "EC" }),
        json!({ "kty": "EC", "use": "wit-svid", "kid": "w" }),
        json!({ "kty": "EC", "use": "X509-SVID", "x5c": ["!"] }),
        json!({ "kty": "EC", "use": ["x509-svid"] }),
        json!({ "kty": "NEW", "use": "x509-svid", "x5c": [STANDARD.encode(&der)] }),
        json!({ "use": "x509-svid", "x5c": [STANDARD.encode(&der)] }),
        json!({ "kty": "oct", "use": "jwt-svid", "kid": "k", "k": "c2VjcmV0" }),
        json!({ "kty": "OKP", "use": "jwt-svid", "kid": "k", "crv": "Ed25519", "x": "AA" }),
        json!({ "kty": "EC", "use": "jwt-svid", "kid": "k", "crv": "secp256k1" }),
        json!({ "kty": "NEW", "use": "jwt-svid" }),
        json!({}),
    ];
    let (jwt, jwk) = jwt_key("j");
    let keys: Vec<_> = [x509_key(&der)].into_iter().chain(passed_over).chain([jwk]).collect();
    let parsed = parse(&json!({ "keys": keys, "more": [1] })).unwrap();
    assert_eq!((parsed.x509_authorities, parsed.jwt_authorities), (vec![der], vec![jwt]));
}

#[test]
fn of_x5c_the_first_certificate_counts_and_none_is_ignored() {
    let (first, second) = (authority(), authority());
    let several = json!({ "kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(&first), STANDARD.encode(&second), 7] });
    let keys =
        json!([several, { "kty": "EC", "use": "x509-svid" }, { "kty": "EC", "use": "x509-svid", "x5c": [] }]);
    assert_eq!(parse(&json!({ "keys": keys })).unwrap().x509_authorities, [first]);
}

#[test]
fn a_malformed_key_of_a_known_use_spoils_the_document() {
    let der = STANDARD.encode(authority());
    let (_, good) = jwt_key("k");
    let without = |name: &str| {
        let mut key = good.clone();
        key.as_object_mut().unwrap().remove(name);
        key
    };
    let with = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let other_key = { x509_key(&authority()).as_object().unwrap().clone() };
    let mut contradictory =
        json!(Jwk::from_spki(Certificate::parse(&authority()).unwrap().public_key()).unwrap().members());
    contradictory.as_object_mut().unwrap().extend(other_key);
    let malformed = [
        json!("key"),
        json!({ "kty": "EC", "use": "x509-svid", "x5c": der }),
        json!({ "kty": "EC", "use": "x509-svid", "x5c": [7] }),
        json!({ "kty": "EC", "use": "x509-svid", "x5c": ["?"] }),
        json!({ "kty": "EC", "use": "x509-svid", "x5c": ["MAA="] }),
        json!({ "kty": "EC", "use": "x509-svid", "x5c": [format!("{der} ")] }),
        contradictory,
        without("kid"),
        with("kid", json!("")),
        with("kid", json!(7)),
        without("crv"),
        without("x"),
        with("y", json!("AAAA")),
        with("x", good["y"].clone()),
        with("x", json!(format!("{}=", good["x"].as_str().unwrap()))),
        json!({ "kty": "RSA", "use": "jwt-svid", "kid": "r", "n": "AA", "e": "AQAB" }),
        json!({ "kty": "RSA", "use": "jwt-svid", "kid": "r", "n": "AQAB" }),
    ];
    for key in malformed {
        let refused = parse(&json!({ "keys": [good, key] }));
        assert!(matches!(refused, Err(BundleError::Key { index: 1, .. })), "{key}: {refused:?}");
    }
}

#[test]
fn names_of_jwt_authorities_are_unique() {
    let (one, two) = (jwt_key("k"), jwt_key("k"));
    assert_eq!(parse(&json!({ "keys": [one.1, two.1] })), Err(BundleError::RepeatedKid("k".to_owned())));
    let twice = Bundle { jwt_authorities: vec![one.0, two.0], ..bundle("acme.example", &[]) };
    assert_eq!(twice.to_document(), Err(BundleError::RepeatedKid("k".to_owned())));
}

#[test]
fn a_jwt_bundle_is_a_plain_key_set() {
    let (named, mut key) = jwt_key("k");
    key.as_object_mut().unwrap().remove("use");
    let (_, other) = jwt_key("o");
    let mut other = other;
    other["use"] = json!("sig");
    let document = json!({ "keys": [key, other, x509_key(&authority())] }).to_string();
    let trust_domain: TrustDomain = "acme.example".parse().unwrap();
    let bundle = Bundle::parse_jwt(trust_domain.clone(), document.as_bytes()).unwrap();
    assert_eq!(bundle, Bundle { jwt_authorities: vec![named], ..Bundle::empty(trust_domain.clone()) });
    let whole = Bundle::parse(trust_domain, document.as_bytes()).unwrap();
    assert!(whole.jwt_authorities.is_empty(), "in a SPIFFE bundle, a key without use is ignored");
}

#[test]
fn a_document_that_could_be_read_in_two_ways_is_refused() {
    for text in [
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[],"spiffe_sequence":1,"spiffe_sequence":2}"#,
        r#"{"keys":[{"use":"x","use":"jwt-svid"}]}"#,
        r#"{"keys":[]} {}"#,
        r#"{"keys":[],}"#,
        "",
    ] {
        assert!(matches!(parse_text(text), Err(BundleError::Json(_))), "{text}");
    }
}

#[test]
fn the_size_of_a_document_is_bounded() {
    let padding = " ".repeat(MAX_DOCUMENT_BYTES);
    assert_eq!(parse_text(&format!("{padding} ")), Err(BundleError::Length(MAX_DOCUMENT_BYTES + 1)));
    assert!(parse_text(&format!(r#"{{"keys":[]{}}}"#, &padding[11..])).is_ok());
}

#[test]
fn the_map_of_bundles_answers_by_name_and_forgets() {
    let mut bundles: Bundles = [bundle("a", &[]), bundle("b", &[&authority()])].into_iter().collect();
    bundles.insert(bundle("a", &[&authority()]));
    assert_eq!(bundles.get("a").unwrap().x509_authorities.len(), 1);
    assert_eq!(bundles.iter().count(), 2);
    bundles.remove(&"a".parse().unwrap());
    assert!(bundles.get("a").is_none() && bundles.get("c").is_none());
}

proptest! {
    #[test]
    fn no_document_makes_parsing_panic(
        kty in "EC|RSA|OKP|oct", usage in "x509-svid|jwt-svid|other", crv in "P-256|P-384|P-521|Ed25519",
        text in "[A-Za-z0-9_=+/-]{0,90}", other in any::<String>(),
    ) {
        let key = json!({ "kty": kty, "use": usage, "crv": crv, "x": text, "y": other, "n": text, "e": other,
            "kid": other, "x5c": [text, other] });
        let _ = parse(&json!({ "keys": [key] }));
        let _ = parse_text(&other);
    }
}
