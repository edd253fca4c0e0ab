//! RFC 7517 and RFC 7518 section 6: which keys may verify.

use serde_json::json;

use super::*;
use crate::jwt::testing::Signer;

fn parse(document: &Value) -> Result<KeySet, KeySetError> {
    KeySet::parse(document.to_string().as_bytes())
}

fn may_all_verify(document: &Value) -> bool {
    parse(document).and_then(|keys| keys.check_each()).is_ok()
}

fn with(jwk: &Value, name: &str, value: Value) -> Value {
    let mut jwk = jwk.clone();
    jwk[name] = value;
    jwk
}

fn verifies(document: &Value, token: &str) -> bool {
    let Ok(keys) = parse(document) else { return false };
    Compact::parse(token).is_ok_and(|token| keys.verify(&token).is_ok())
}

#[test]
fn keys_of_every_algorithm_may_verify_alone_and_in_a_set() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        let token = signer.token(&json!({ "alg": algorithm.name() }).to_string(), "foo");
        for jwk in [
            signer.jwk(),
            with(&signer.jwk(), "alg", json!(algorithm.name())),
            with(&signer.jwk(), "use", json!("sig")),
            with(&signer.jwk(), "key_ops", json!(["verify"])),
            with(&signer.jwk(), "d", json!("private, and passed over")),
        ] {
            for document in [jwk.clone(), json!({ "keys": [jwk] })] {
                assert!(may_all_verify(&document) && verifies(&document, &token), "{document}");
            }
        }
    }
}

#[test]
fn a_key_whose_members_contradict_each_other_or_its_use_may_not_verify() {
    let (ec, rsa) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::RS256));
    let ec_token = ec.token(r#"{"alg":"ES256"}"#, "foo");
    let rsa_token = rsa.token(r#"{"alg":"RS256"}"#, "foo");
    for (name, value) in [
        ("alg", json!("ES384")),
        ("alg", json!("ES521")),
        ("alg", json!("HS256")),
        ("alg", json!("RS256")),
        ("alg", json!(7)),
        ("use", json!("enc")),
        ("use", json!("x509-svid")),
        ("use", json!(null)),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!([])),
        ("key_ops", json!("verify")),
        ("key_ops", json!(["verify", "verify"])),
        ("key_ops", json!(["verify", 1])),
        ("kid", json!(7)),
        ("crv", json!("P-384")),
        ("crv", json!("secp256k1")),
        ("crv", json!(null)),
        ("kty", json!("RSA")),
        ("kty", json!("OKP")),
        ("kty", json!("ec")),
        ("x", ec.jwk()["y"].clone()),
        ("x", json!(format!("{}=", ec.jwk()["x"].as_str().unwrap()))),
        ("x", json!(format!("AA{}", ec.jwk()["x"].as_str().unwrap()))),
    ] {
        let jwk = with(&ec.jwk(), name, value);
        assert!(!may_all_verify(&jwk) && !verifies(&jwk, &ec_token), "{jwk}");
    }
    let n = rsa.jwk()["n"].as_str().unwrap().to_owned();
    for (name, value) in [
        ("alg", json!("ES256")),
        ("alg", json!("RSA-OAEP")),
        ("e", json!("AQ")),
        ("e", json!("AQAA")),
        ("e", json!("AAEAAQ")),
        ("e", json!("")),
        ("e", json!("AA")),
        ("n", json!("AQAB")),
        ("n", json!(n[..n.len() / 2])),
        ("n", json!(format!("AAAA{n}"))),
        ("n", json!(n.replace(|_| true, "_").repeat(3))),
        ("n", json!(format!("{}A", &n[..n.len() - 1]))),
        ("kty", json!("EC")),
    ] {
        let jwk = with(&rsa.jwk(), name, value);
        assert!(!may_all_verify(&jwk) && !verifies(&jwk, &rsa_token), "{jwk}");
    }
    assert!(may_all_verify(&rsa.jwk()) && verifies(&rsa.jwk(), &rsa_token));
    assert!(!verifies(&with(&rsa.jwk(), "alg", json!("PS256")), &rsa_token), "another algorithm than meant");
}

#[test]
fn a_document_without_keys_or_with_secrets_or_repeated_names_is_refused() {
    let (one, two) = (Signer::new(Algorithm::ES256).jwk(), Signer::new(Algorithm::ES256).jwk());
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "s" });
    assert_eq!(parse(&secret).unwrap_err(), KeySetError::Secret(0));
    assert_eq!(parse(&json!({ "keys": [one, secret] })).unwrap_err(), KeySetError::Secret(1));
    let (one, two) = (with(&one, "kid", json!("k")), with(&two, "kid", json!("k")));
    assert_eq!(parse(&json!({ "keys": [one, two] })).unwrap_err(), KeySetError::RepeatedKid("k".to_owned()));
    let unusable = with(&two, "use", json!("enc"));
    assert!(parse(&json!({ "keys": [one, unusable] })).is_err(), "the name of an unusable key counts too");
    for keys in [json!(null), json!({}), json!("k"), json!([1])] {
        assert_eq!(parse(&json!({ "keys": keys })).unwrap_err(), KeySetError::NoKeys);
    }
    assert_eq!(parse(&json!({ "keys": [] })).unwrap().check_each(), Err(KeySetError::NoKeys));
    for text in ["", "[]", "null", r#"{"keys":[],"keys":[]}"#, r#"{"kty":"EC","kty":"EC"}"#] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), KeySetError::Json, "{text}");
    }
    let long = vec![b' '; MAX_KEY_SET_BYTES + 1];
    assert_eq!(KeySet::parse(&long).unwrap_err(), KeySetError::Length(MAX_KEY_SET_BYTES + 1));
}

#[test]
fn the_key_is_chosen_by_its_name_and_unusable_ones_are_passed_over() {
    let (one, two) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let named = |signer: &Signer, kid: &str| with(&signer.jwk(), "kid", json!(kid));
    let unusable = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "ed" });
    let set = json!({ "keys": [named(&one, "one"), named(&two, "two"), unusable] });
    let token = |kid: &str| two.token(&json!({ "alg": "ES256", "kid": kid }).to_string(), "foo");
    assert!(verifies(&set, &token("two")));
    for kid in ["one", "ed", "three", ""] {
        assert!(!verifies(&set, &token(kid)), "{kid}");
    }
    assert!(verifies(&set, &two.token(r#"{"alg":"ES256"}"#, "foo")), "no name: any key may have signed");
    assert!(!verifies(&named(&two, "one"), &token("two")));
    assert!(verifies(&two.jwk(), &token("two")), "a nameless key alone is the one that is meant");
    assert!(!verifies(&json!({ "keys": [two.jwk()] }), &token("two")));
    assert!(!may_all_verify(&set));
}

#[test]
fn a_single_key_is_given_for_the_algorithms_it_may_verify() {
    let signer = Signer::new(Algorithm::ES384);
    let alone = parse(&signer.jwk()).unwrap();
    assert!(alone.only(Algorithm::ES384).is_some() && alone.only(Algorithm::ES256).is_none());
    let two = parse(&json!({ "keys": [signer.jwk(), signer.jwk()] })).unwrap();
    assert!(two.only(Algorithm::ES384).is_none());
}

#[test]
fn an_x509_key_that_is_confined_to_pss_verifies_with_its_own_hash_only() {
    let signer = Signer::new(Algorithm::PS256);
    let plain = signer.public_key();
    assert!(KeySet::from_public_key(&plain).unwrap().only(Algorithm::RS256).is_some());
    // The key itself is the BIT STRING after the 15 bytes of rsaEncryption's identifier.
    let bits = &plain[4 + 15..];
    let identifier =
        [&[0x30, u8::try_from(alg_id::RSA_PSS_SHA256.len()).unwrap()][..], &alg_id::RSA_PSS_SHA256].concat();
    let length = u16::try_from(identifier.len() + bits.len()).unwrap().to_be_bytes();
    let confined = [&[0x30, 0x82][..], &length, &identifier, bits].concat();
    let keys = KeySet::from_public_key(&confined).unwrap();
    let may = |algorithm: &Algorithm| keys.only(*algorithm).is_some();
    assert_eq!(Algorithm::ALL.into_iter().filter(may).collect::<Vec<_>>(), [Algorithm::PS256]);
    assert!(KeySet::from_public_key(&[confined.as_slice(), &[0]].concat()).is_none());
}
