//! JWT-SVIDs, good and not quite.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as lc, EcdsaKeyPair, KeyPair as _, RsaEncoding, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

use super::{Question, damaged};

/// One key of each kind, which `kid` names as the algorithm that it is for.
pub(super) struct Keys {
    ec: [(&'static str, &'static str, EcdsaKeyPair); 3],
    rsa: RsaKeyPair,
    /// In no bundle.
    foreign: EcdsaKeyPair,
}

impl Keys {
    pub(super) fn new() -> Self {
        let ec = |signing| EcdsaKeyPair::generate(signing).expect("randomness");
        Self {
            ec: [
                ("ES256", "P-256", ec(&lc::ECDSA_P256_SHA256_FIXED_SIGNING)),
                ("ES384", "P-384", ec(&lc::ECDSA_P384_SHA384_FIXED_SIGNING)),
                ("ES512", "P-521", ec(&lc::ECDSA_P521_SHA512_FIXED_SIGNING)),
            ],
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("randomness"),
            foreign: ec(&lc::ECDSA_P256_SHA256_FIXED_SIGNING),
        }
    }

    /// The keys as JWKs for JWT-SVIDs.
    pub(super) fn jwks(&self) -> Vec<Value> {
        let ec = self.ec.iter().map(|(kid, curve, pair)| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
            json!({ "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
                "use": "jwt-svid", "kid": kid })
        });
        let spki = self.rsa.public_key().as_der().expect("it can be written");
        let (_, info) = SubjectPublicKeyInfo::from_der(spki.as_ref()).expect("it was just written");
        let Ok(PublicKey::RSA(key)) = info.parsed() else { panic!("an RSA key") };
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes.strip_prefix(&[0]).unwrap_or(bytes));
        let rsa = json!({ "kty": "RSA", "n": number(key.modulus), "e": number(key.exponent), "use": "jwt-svid", "kid": "RSA" });
        ec.chain([rsa]).collect()
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        if let Some((.., pair)) = self.ec.iter().find(|(name, ..)| *name == algorithm) {
            return pair.sign(&random, message).expect("it signs").as_ref().to_vec();
        }
        let encoding: &'static dyn RsaEncoding = match algorithm {
            "RS256" => &lc::RSA_PKCS1_SHA256,
            "RS384" => &lc::RSA_PKCS1_SHA384,
            "RS512" => &lc::RSA_PKCS1_SHA512,
            "PS256" => &lc::RSA_PSS_SHA256,
            "PS384" => &lc::RSA_PSS_SHA384,
            "PS512" => &lc::RSA_PSS_SHA512,
            _ => return self.foreign.sign(&random, message).expect("it signs").as_ref().to_vec(),
        };
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(encoding, &random, message, &mut signature).expect("it signs");
        signature
    }
}

/// A token, its bundle and an audience.
pub(super) fn question(random: &mut StdRng, keys: &Keys, now: i64) -> Question {
    let algorithm = *ALGORITHMS.choose(random).expect("some");
    let kid = if algorithm.starts_with('E') { algorithm } else { "RSA" };
    let mut header = json!({ "alg": algorithm, "kid": kid, "typ": "JWT" });
    let mut claims =
        json!({ "sub": "spiffe://acme.example/web", "aud": ["db"], "iat": now, "exp": now + 3600 });
    let mut jwks = json!({ "keys": keys.jwks() });
    let mut audience = json!(["db", "cache"]);
    let mut signer = algorithm;
    let mut domain = "acme.example";
    for _ in 0..random.random_range(0..=2) {
        match random.random_range(0..12) {
            0..=2 => change(random, &mut header, HEADERS),
            3..=7 => change(random, &mut claims, CLAIMS),
            8 => {
                let name = *["exp", "nbf", "iat"].choose(random).expect("some");
                claims[name] = json!(now + *OFFSETS.choose(random).expect("some"));
            }
            9 => signer = SIGNERS.choose(random).expect("some"),
            10 => match random.random_range(0..4) {
                0 => audience = json!([]),
                1 => audience = json!(["other"]),
                2 => domain = "other.example",
                _ => jwks["keys"] = json!([]),
            },
            _ => {
                let which = random.random_range(0..4);
                if let Some(key) = jwks["keys"].get_mut(which) {
                    key["kid"] = json!(format!("renamed-{which}"));
                }
            }
        }
    }
    let (header, claims) = (doubled(random, &header), doubled(random, &claims));
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(keys.sign(signer, signed.as_bytes())));
    let token = match random.random_range(0..8) {
        0 => String::from_utf8_lossy(&damaged(random, token.as_bytes(), b"Aa0_-.=\n +/{\"")).into_owned(),
        1 => stray_bits(random, token),
        _ => token,
    };
    let now = super::chains::rfc3339(now);
    let input = json!({ "token": token, "audience": audience, "jwks": { domain: jwks }, "now": now });
    Question { op: "jwtsvid_validate", input }
}

/// Sets or takes away one member.
fn change(random: &mut StdRng, object: &mut Value, menu: &[(&str, &str)]) {
    let (name, value) = menu.choose(random).expect("some");
    match serde_json::from_str(value) {
        Ok(value) => object[*name] = value,
        Err(_) => drop(object.as_object_mut().expect("an object").remove(*name)), // written as nothing
    }
}

/// JSON, rarely with a member twice or something around it.
fn doubled(random: &mut StdRng, object: &Value) -> String {
    let text = object.to_string();
    match random.random_range(0..40) {
        0 => text.replacen('{', r#"{"sub":"spiffe://acme.example/other","#, 1),
        1 => text.replacen('{', r#"{"act":{"a":1,"a":2},"#, 1),
        2 => format!("{text} "),
        3 => format!("{text}{{}}"),
        4 => format!("\u{feff}{text}"),
        5 => text.replacen("\"sub\"", "\"Sub\"", 1).replacen("\"alg\"", "\"ALG\"", 1),
        _ => text,
    }
}

/// Another last letter of one part, which stands for the same bytes and stray bits.
fn stray_bits(random: &mut StdRng, token: String) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let which = random.random_range(0..parts.len());
    if let Some(last) = parts[which].pop() {
        let at = ALPHABET.find(last).unwrap_or(0);
        parts[which].push(char::from(ALPHABET.as_bytes()[at ^ 1]));
    }
    parts.join(".")
}

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const ALGORITHMS: [&str; 12] = [
    "ES256", "ES256", "ES256", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384",
    "PS512",
];
const SIGNERS: [&str; 6] = ["ES256", "ES384", "RS256", "PS256", "PS512", "foreign"];
const OFFSETS: [i64; 8] = [-100_000, -4_000, -300, -30, 30, 300, 4_000, 100_000];
/// Members and the JSON that is put there; nothing takes the member away.
const HEADERS: &[(&str, &str)] = &[
    ("alg", ""),
    ("alg", "\"none\""),
    ("alg", "\"HS256\""),
    ("alg", "\"EdDSA\""),
    ("alg", "\"es256\""),
    ("alg", "\"ES384\""),
    ("alg", "\"PS256\""),
    ("alg", "null"),
    ("alg", "7"),
    ("kid", ""),
    ("kid", "\"\""),
    ("kid", "\"nobody\""),
    ("kid", "null"),
    ("kid", "7"),
    ("kid", "\"ES384\""),
    ("typ", ""),
    ("typ", "\"JOSE\""),
    ("typ", "\"jwt\""),
    ("typ", "\"at+jwt\""),
    ("typ", "null"),
    ("typ", "7"),
    ("cty", "\"JWT\""),
    ("x", "1"),
    ("crit", "[\"x\"]"),
    ("crit", "[]"),
    ("b64", "false"),
    ("b64", "true"),
    ("jku", "\"https://acme.example\""),
    ("jwk", "{\"kty\":\"oct\"}"),
    ("x5u", "\"https://acme.example\""),
    ("x5c", "[]"),
    ("zip", "\"DEF\""),
    ("nonce", "\"n\""),
];
const CLAIMS: &[(&str, &str)] = &[
    ("sub", ""),
    ("sub", "null"),
    ("sub", "7"),
    ("sub", "\"\""),
    ("sub", "\"spiffe://acme.example\""),
    ("sub", "\"spiffe://acme.example/\""),
    ("sub", "\"spiffe://acme.example/a/../b\""),
    ("sub", "\"spiffe://acme.example/%61\""),
    ("sub", "\"spiffe://ACME.example/a\""),
    ("sub", "\"SPIFFE://acme.example/a\""),
    ("sub", "\"spiffe://other.example/a\""),
    ("sub", "[\"spiffe://acme.example/a\"]"),
    ("aud", ""),
    ("aud", "null"),
    ("aud", "[]"),
    ("aud", "\"db\""),
    ("aud", "\"\""),
    ("aud", "[\"x\",\"cache\"]"),
    ("aud", "[\"db\",7]"),
    ("aud", "7"),
    ("aud", "[[\"db\"]]"),
    ("aud", "[null,\"db\"]"),
    ("aud", "\"DB\""),
    ("aud", "{\"db\":1}"),
    ("exp", ""),
    ("exp", "null"),
    ("exp", "0"),
    ("exp", "-1"),
    ("exp", "\"4102444800\""),
    ("exp", "4102444800.5"),
    ("exp", "4.1e9"),
    ("exp", "1e20"),
    ("exp", "1e300"),
    ("exp", "[]"),
    ("exp", "true"),
    ("exp", "253402300800"),
    ("nbf", "null"),
    ("nbf", "0"),
    ("nbf", "-1"),
    ("nbf", "\"0\""),
    ("nbf", "0.5"),
    ("nbf", "4102444800"),
    ("nbf", "-1e300"),
    ("iat", ""),
    ("iat", "null"),
    ("iat", "\"0\""),
    ("iat", "0.5"),
    ("iat", "4102444800"),
    ("iat", "{}"),
    ("jti", "\"j\""),
    ("jti", "7"),
    ("jti", "null"),
    ("iss", "\"i\""),
    ("iss", "7"),
    ("iss", "null"),
    ("groups", "[1,{\"a\":null}]"),
    ("name", "\"\\ud800\""),
    ("name", "\"\\u0000\""),
];
