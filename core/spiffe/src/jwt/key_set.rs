//! JWKs and JWK sets of which each key may verify signatures (RFC 7517).

use std::collections::HashSet;

use rustls_pki_types::alg_id;
use serde_json::{Map, Value};

use super::{Algorithm, Compact, JwtError};
use crate::{
    json,
    jwk::{Jwk, JwkError, text},
    x509::Key as SpkiParts,
};

/// The longest JWK or JWK set accepted, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 1024 * 1024;

/// The keys of a JWK or a JWK set.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Whether it is a JWK alone: then there is no choice that a name could decide.
    alone: bool,
}

/// One key, or why it may not verify anything. Of such a key the name counts nevertheless.
#[derive(Debug)]
struct Key {
    kid: Option<String>,
    usable: Result<Verifying, &'static str>,
}

/// A key that may verify.
#[derive(Debug)]
struct Verifying {
    key: Jwk,
    /// The one algorithm it is meant for, if it says so.
    algorithm: Option<Algorithm>,
}

/// Why a document is not a set of keys to verify with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeySetError {
    /// Longer than [`MAX_KEY_SET_BYTES`].
    #[error("a key set of {0} bytes is longer than {MAX_KEY_SET_BYTES}")]
    Length(usize),
    /// Not a JSON object, or with a member named twice.
    #[error("the key set is not an unambiguous JSON object")]
    Json,
    /// `keys` is there, but is not a list of objects.
    #[error("keys is not a list of JSON objects")]
    NoKeys,
    /// A secret among public keys invites using one for the other.
    #[error("key {0} is a secret (kty oct), which verifies nothing here")]
    Secret(usize),
    /// Two keys have the same name.
    #[error("two keys have the kid {0:?}")]
    RepeatedKid(String),
    /// A key that may not verify.
    #[error("key {0} may not verify: {1}")]
    Unusable(usize, &'static str),
}

impl KeySet {
    /// Reads a JWK or a JWK set. A key that may not verify is passed over (RFC 7517 section 5), but a
    /// secret or a repeated name spoils the set.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetError::Length(document.len()));
        }
        let document = json::parse(document).map_err(|_| KeySetError::Json)?;
        let document = document.as_object().ok_or(KeySetError::Json)?;
        let listed = match document.get("keys") {
            None => None,
            Some(keys) => {
                let keys = keys.as_array().ok_or(KeySetError::NoKeys)?.iter();
                Some(keys.map(Value::as_object).collect::<Option<Vec<_>>>().ok_or(KeySetError::NoKeys)?)
            }
        };
        let alone = listed.is_none();
        let mut names = HashSet::new();
        let mut keys = Vec::new();
        for (index, jwk) in listed.unwrap_or_else(|| vec![document]).into_iter().enumerate() {
            if text(jwk, "kty") == Some("oct") {
                return Err(KeySetError::Secret(index));
            }
            let kid = text(jwk, "kid");
            if let Some(twice) = kid.filter(|kid| !names.insert(*kid)) {
                return Err(KeySetError::RepeatedKid(twice.chars().take(80).collect()));
            }
            keys.push(Key { kid: kid.map(str::to_owned), usable: Verifying::parse(jwk) });
        }
        Ok(Self { keys, alone })
    }

    /// The key in a SubjectPublicKeyInfo (DER), as a set of its own.
    pub fn from_public_key(spki: &[u8]) -> Option<Self> {
        let (key, algorithm) = match Jwk::from_public_key(spki) {
            Some(key) => (key, None),
            None => pss_key(spki)?,
        };
        Some(Self { keys: vec![Key { kid: None, usable: Ok(Verifying { key, algorithm }) }], alone: true })
    }

    /// Checks that there is at least one key, and that each may verify.
    pub fn check_each(&self) -> Result<(), KeySetError> {
        if self.keys.is_empty() {
            return Err(KeySetError::NoKeys);
        }
        let unusable = |(index, key): (usize, &Key)| match key.usable {
            Err(reason) => Some(KeySetError::Unusable(index, reason)),
            Ok(_) => None,
        };
        self.keys.iter().enumerate().find_map(unusable).map_or(Ok(()), Err)
    }

    /// Whether a key has this name.
    pub fn has(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Checks that a key of the set signed `token`, and gives the payload that it signed.
    pub fn verify<'t>(&self, token: &'t Compact<'_>) -> Result<&'t [u8], JwtError> {
        let named = |key: &&Key| match (&token.kid, &key.kid) {
            (None, _) => true,
            (Some(_), None) => self.alone,
            (Some(wanted), Some(kid)) => wanted == kid,
        };
        let usable = self.keys.iter().filter(named).filter_map(|key| key.usable.as_ref().ok());
        token.verify(usable.filter(|it| it.may_verify(token.algorithm)).map(|it| &it.key))
    }

    /// The key of a JWK that stands alone, if it may verify under `algorithm`.
    pub fn only(&self, algorithm: Algorithm) -> Option<&Jwk> {
        let [key] = self.keys.as_slice() else { return None };
        key.usable.as_ref().ok().filter(|it| it.may_verify(algorithm)).map(|it| &it.key)
    }
}

impl Verifying {
    fn parse(jwk: &Map<String, Value>) -> Result<Self, &'static str> {
        let key = Jwk::parse(jwk).map_err(|error| match error {
            JwkError::Unknown => "its type or curve is not one of those verified here",
            JwkError::Malformed(reason) => reason,
        })?;
        if jwk.get("kid").is_some_and(|kid| !kid.is_string()) {
            return Err("its kid is not a text");
        }
        // RFC 7517 section 4.2
        if jwk.get("use").is_some_and(|usage| !matches!(usage.as_str(), Some("sig" | "jwt-svid"))) {
            return Err("its use is not sig");
        }
        check_operations(jwk)?;
        let algorithm = match jwk.get("alg") {
            None => None,
            Some(alg) => {
                Some(alg.as_str().and_then(Algorithm::named).ok_or("its alg is not one of RS, PS or ES")?)
            }
        };
        let verifying = Self { key, algorithm };
        if !Algorithm::ALL.into_iter().any(|algorithm| verifying.may_verify(algorithm)) {
            return Err("its alg contradicts its type, or it is an RSA key of less than 2048 bits");
        }
        Ok(verifying)
    }

    fn may_verify(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm) && algorithm.fits(&self.key)
    }
}

/// An RSA key that X.509 confines to PSS with one hash, and a salt as long as that (RFC 4055 section 3.1).
fn pss_key(spki: &[u8]) -> Option<(Jwk, Option<Algorithm>)> {
    let key = SpkiParts::parse(spki)?;
    let confined = [
        (alg_id::RSA_PSS_SHA256, Algorithm::PS256),
        (alg_id::RSA_PSS_SHA384, Algorithm::PS384),
        (alg_id::RSA_PSS_SHA512, Algorithm::PS512),
    ];
    let (_, algorithm) = confined.into_iter().find(|(id, _)| **id == *key.algorithm)?;
    Some((Jwk::from_rsa_key(key.bits)?, Some(algorithm)))
}

/// RFC 7517 section 4.3: a list of different texts.
fn check_operations(jwk: &Map<String, Value>) -> Result<(), &'static str> {
    let Some(operations) = jwk.get("key_ops") else { return Ok(()) };
    let operations = operations.as_array().ok_or("its key_ops is not a list")?;
    let names: Vec<_> = operations.iter().filter_map(Value::as_str).collect();
    let different: HashSet<_> = names.iter().collect();
    if names.len() != operations.len() || different.len() != names.len() {
        return Err("its key_ops is not a list of different texts");
    }
    if names.contains(&"verify") { Ok(()) } else { Err("its key_ops lacks verify") }
}

#[cfg(test)]
mod tests;
