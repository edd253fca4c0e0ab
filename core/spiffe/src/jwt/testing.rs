//! Keys and tokens for tests: right by default, wrong where a test says so.

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self as lc, EcdsaKeyPair, KeyPair as _, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::Algorithm;
use crate::{Bundle, Bundles, JwtAuthority, jwk::Jwk, test_pki::NOW};

/// A key that signs under one algorithm.
pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let ec = |signing| Pair::Ec(EcdsaKeyPair::generate(signing).unwrap());
        let pair = match algorithm {
            Algorithm::ES256 => ec(&lc::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ec(&lc::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::ES512 => ec(&lc::ECDSA_P521_SHA512_FIXED_SIGNING),
            _ => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Self { algorithm, pair }
    }

    /// The same key for another algorithm of its kind.
    pub(crate) fn under(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// The public key as SubjectPublicKeyInfo.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ec(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    pub(crate) fn key(&self) -> Jwk {
        Jwk::from_public_key(&self.public_key()).unwrap()
    }

    /// The public key as JWK, without a name.
    pub(crate) fn jwk(&self) -> Value {
        json!(self.key().members())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let pair = match &self.pair {
            Pair::Ec(pair) => return pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => pair,
        };
        let encoding: &'static dyn lc::RsaEncoding = match self.algorithm {
            Algorithm::RS256 => &lc::RSA_PKCS1_SHA256,
            Algorithm::RS384 => &lc::RSA_PKCS1_SHA384,
            Algorithm::RS512 => &lc::RSA_PKCS1_SHA512,
            Algorithm::PS256 => &lc::RSA_PSS_SHA256,
            Algorithm::PS384 => &lc::RSA_PSS_SHA384,
            _ => &lc::RSA_PSS_SHA512,
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &random, message, &mut signature).unwrap();
        signature
    }

    /// A token of these two texts, which need not be JSON.
    pub(crate) fn token(&self, header: &str, payload: &str) -> String {
        self.token_of_bytes(header.as_bytes(), payload.as_bytes())
    }

    /// A token of these two parts, which need not be text.
    pub(crate) fn token_of_bytes(&self, header: &[u8], payload: &[u8]) -> String {
        let signed = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// A token of these claims under the key `k`.
    pub(crate) fn svid(&self, claims: &Value) -> String {
        let header = json!({ "alg": self.algorithm.name(), "kid": "k", "typ": "JWT" });
        self.token(&header.to_string(), &claims.to_string())
    }

    /// The bundle of `trust_domain` in which this key is called `k`.
    pub(crate) fn bundle(&self, trust_domain: &str) -> Bundle {
        let jwt_authorities = vec![JwtAuthority { kid: "k".to_owned(), key: self.key() }];
        Bundle { jwt_authorities, ..Bundle::empty(trust_domain.parse().unwrap()) }
    }

    pub(crate) fn bundles(&self) -> Bundles {
        [self.bundle("acme.example")].into_iter().collect()
    }
}

/// The claims of an ordinary JWT-SVID for the audience `db`.
pub(crate) fn claims() -> Value {
    let now = NOW.unix_seconds();
    json!({ "sub": "spiffe://acme.example/web", "aud": ["db"], "iat": now, "exp": now + 300 })
}
