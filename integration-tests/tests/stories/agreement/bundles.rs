//! SPIFFE bundle documents, good and not quite.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

use super::tokens::Keys;
use super::{Question, base64, chains, damaged};

/// A bundle document of `acme.example`.
pub(super) fn question(random: &mut StdRng, keys: &Keys) -> Question {
    let mut document = json!({ "keys": [] });
    let jwks = keys.jwks();
    let mut listed = Vec::new();
    for _ in 0..random.random_range(0..3) {
        listed.push(x509(random));
    }
    let first = random.random_range(0..jwks.len());
    listed.extend(jwks[first..].iter().take(random.random_range(0..3)).cloned());
    for _ in 0..random.random_range(0..=2) {
        match random.random_range(0..8) {
            0 => document["spiffe_sequence"] = json!(random.random::<u32>()),
            1 => document["spiffe_refresh_hint"] = json!(random.random_range(0..100_000)),
            2 => {
                let name = *["spiffe_sequence", "spiffe_refresh_hint", "more"].choose(random).expect("some");
                document[name] = parsed(NUMBERS.choose(random).expect("some"));
            }
            3 => listed.push(parsed(KEYS.choose(random).expect("some"))),
            4 => {
                if let Some(twice) = listed.choose(random).cloned() {
                    listed.push(twice);
                }
            }
            _ => {
                if !listed.is_empty() {
                    let which = random.random_range(0..listed.len());
                    change(random, &mut listed[which]);
                }
            }
        }
    }
    document["keys"] = json!(listed);
    let text = match random.random_range(0..30) {
        0 => parsed(DOCUMENTS.choose(random).expect("some")).to_string().into_bytes(),
        1 => document.to_string().replacen('{', r#"{"keys":[],"#, 1).into_bytes(),
        2 => document.to_string().replacen("\"use\"", "\"use\":\"x\",\"use\"", 1).into_bytes(),
        3 => document.to_string().replacen("\"keys\"", "\"Keys\"", 1).into_bytes(),
        4 => document.to_string().replacen("\"use\"", "\"USE\"", 1).into_bytes(),
        5 => format!("{document} {{}}").into_bytes(),
        6 | 7 => damaged(random, document.to_string().as_bytes(), b"{}[]\",:0aA= \n\x00\xff"),
        _ => document.to_string().into_bytes(),
    };
    Question {
        op: "bundle_parse",
        input: json!({ "trust_domain": "acme.example", "doc_b64": base64(&text) }),
    }
}

/// An authority as a JWK, with its key beside the certificate.
fn x509(random: &mut StdRng) -> Value {
    let (der, x, y) = chains::authority_with_point(random);
    let mut jwk =
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "x509-svid", "x5c": [base64(&der)] });
    if random.random_range(0..20) == 0 {
        jwk["kid"] = json!("k");
    }
    jwk
}

/// Sets or takes away one member of a key.
fn change(random: &mut StdRng, jwk: &mut Value) {
    let (name, value) = MEMBERS.choose(random).expect("some");
    match *value {
        "" => drop(jwk.as_object_mut().map(|members| members.remove(*name))),
        "another" => {
            let another = x509(random);
            if jwk.is_object() {
                jwk[*name] = another[*name].clone();
            }
        }
        "twice" => {
            if let Some(first) = jwk.get("x5c").and_then(|x5c| x5c.get(0)).cloned() {
                jwk["x5c"] = json!([first, first]);
            }
        }
        value if jwk.is_object() => jwk[*name] = parsed(value),
        _ => {}
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

const NUMBERS: [&str; 14] = [
    "null",
    "0",
    "-1",
    "1.5",
    "1.0",
    "1e3",
    "\"1\"",
    "true",
    "[]",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "9223372036854775808",
    "1000000000000",
];
const KEYS: [&str; 16] = [
    "null",
    "7",
    "\"key\"",
    "[]",
    "{}",
    r#"{"kty":"EC"}"#,
    r#"{"kty":"NEW","use":"jwt-svid","kid":"n"}"#,
    r#"{"kty":"oct","use":"jwt-svid","kid":"s","k":"c2VjcmV0"}"#,
    r#"{"kty":"oct","use":"jwt-svid","kid":"s","k":"?"}"#,
    r#"{"kty":"OKP","crv":"Ed25519","use":"jwt-svid","kid":"e","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    r#"{"kty":"OKP","crv":"X25519","use":"jwt-svid","kid":"e","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    r#"{"kty":"RSA","use":"jwt-svid","kid":"r","n":"AQAB","e":"AQAB"}"#,
    r#"{"kty":"RSA","use":"jwt-svid","kid":"r"}"#,
    r#"{"kty":"EC","crv":"P-256","use":"other","x":"!","y":7}"#,
    r#"{"kty":"EC","use":"x509-svid"}"#,
    r#"{"kty":"EC","crv":"secp256k1","use":"jwt-svid","kid":"k","x":"AA","y":"AA"}"#,
];
const DOCUMENTS: [&str; 8] =
    ["{}", "[]", "null", "7", r#"{"keys":null}"#, r#"{"keys":{}}"#, r#"{"keys":"k"}"#, r#"{"keys":[]}"#];
const MEMBERS: &[(&str, &str)] = &[
    ("kid", ""),
    ("kid", "\"\""),
    ("kid", "7"),
    ("kid", "null"),
    ("kid", "\"ES256\""),
    ("kid", "\"RSA\""),
    ("use", ""),
    ("use", "\"sig\""),
    ("use", "\"jwt-svid\""),
    ("use", "\"x509-svid\""),
    ("use", "\"JWT-SVID\""),
    ("use", "7"),
    ("use", "null"),
    ("use", "\"wit-svid\""),
    ("kty", ""),
    ("kty", "\"ec\""),
    ("kty", "\"RSA\""),
    ("kty", "\"EC\""),
    ("kty", "\"NEW\""),
    ("kty", "7"),
    ("crv", ""),
    ("crv", "\"P-384\""),
    ("crv", "\"P-257\""),
    ("x", ""),
    ("x", "another"),
    ("y", "\"AA\""),
    ("x", "\"!\""),
    ("x5c", ""),
    ("x5c", "[]"),
    ("x5c", "null"),
    ("x5c", "twice"),
    ("x5c", "another"),
    ("x5c", "[\"\"]"),
    ("x5c", "[\"AAAA\"]"),
    ("x5c", "[7]"),
    ("x5c", "\"AA\""),
    ("n", "\"AAAA\""),
    ("n", ""),
    ("e", ""),
    ("e", "\"AQ\""),
    ("e", "\"AA\""),
    ("e", "\"AAEAAQ\""),
    ("e", "\"Ag\""),
    ("alg", "\"ES256\""),
    ("alg", "\"HS256\""),
    ("alg", "7"),
    ("key_ops", "[\"sign\"]"),
    ("d", "\"AA\""),
    ("x5t", "\"AA\""),
    ("x5u", "\"https://a\""),
];
