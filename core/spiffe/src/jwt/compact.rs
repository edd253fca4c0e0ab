//! A JWS in compact serialisation, taken apart (RFC 7515 section 7.1).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Algorithm, EcdsaForm, JwtError};
use crate::{json, jwk::Jwk};

/// The longest token accepted, in bytes: nothing of a longer one is looked at.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The most keys that are tried on a token that does not name its key.
pub(super) const MAX_CANDIDATES: usize = 16;

/// A token whose header is in order. Nobody has vouched for its payload yet.
pub struct Compact<'a> {
    /// What the header says of the signature.
    pub algorithm: Algorithm,
    /// The name of the key, where the header gives one.
    pub kid: Option<String>,
    header: Map<String, Value>,
    payload: Vec<u8>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart. Size and number of parts are looked at before anything is decoded.
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        Self::parse_with(token, MAX_TOKEN_BYTES, &REFUSED)
    }

    /// The same for a token that may have so many bytes.
    pub(super) fn parse_within(token: &'a str, most: usize) -> Result<Self, JwtError> {
        Self::parse_with(token, most, &REFUSED)
    }

    /// The same for tokens of other issuers, some of which put the thumbprint of a certificate into the
    /// header. It is no key, and nothing is made of it.
    pub fn parse_of_issuer(token: &'a str) -> Result<Self, JwtError> {
        let (_, refused) = REFUSED.split_last().unwrap_or((&THUMBPRINT, &[]));
        Self::parse_with(token, MAX_TOKEN_BYTES, refused)
    }

    fn parse_with(token: &'a str, most: usize, refused: &[&str]) -> Result<Self, JwtError> {
        if token.len() > most {
            return Err(JwtError::Length(token.len()));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Parts);
        };
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let header = object(&decode(header, "header")?, "header")?;
        check_header(&header, refused)?;
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::named);
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(JwtError::Header("has a kid that is not a text")),
        };
        Ok(Self {
            algorithm: algorithm.ok_or(JwtError::Algorithm)?,
            kid,
            header,
            payload: decode(payload, "payload")?,
            signed,
            signature: decode(signature, "signature")?,
        })
    }

    /// The payload, once one of `keys` turns out to have signed it.
    pub(super) fn verify<'k>(&self, keys: impl Iterator<Item = &'k Jwk>) -> Result<&[u8], JwtError> {
        let fitting: Vec<_> = keys.filter(|key| self.algorithm.fits(key)).take(MAX_CANDIDATES + 1).collect();
        if fitting.is_empty() {
            return Err(JwtError::NoKey);
        }
        if fitting.len() > MAX_CANDIDATES {
            return Err(JwtError::TooManyKeys);
        }
        let signed =
            |key: &Jwk| self.algorithm.verify(key, EcdsaForm::Fixed, self.signed, &self.signature).is_ok();
        if fitting.into_iter().any(signed) { Ok(&self.payload) } else { Err(JwtError::Signature) }
    }

    /// The payload as anyone might have written it: good for nothing but choosing the keys to verify with.
    pub(super) fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// What the signature covers.
    pub(super) fn signed(&self) -> &'a [u8] {
        self.signed
    }

    /// The header's members.
    pub(super) fn header(&self) -> &Map<String, Value> {
        &self.header
    }
}

/// A key that a token brings along vouches for nothing, an extension that is not understood changes
/// its meaning (section 4.1.11), and the rest belongs to encryption.
fn check_header(header: &Map<String, Value>, refused: &[&str]) -> Result<(), JwtError> {
    match header.keys().map(String::as_str).find(|name| refused.contains(name)) {
        None => Ok(()),
        Some("crit" | "b64") => Err(JwtError::Header("asks for an extension that is not known here")),
        Some("enc" | "epk" | "zip") => Err(JwtError::Header("is that of an encrypted or compressed token")),
        Some(_) => Err(JwtError::Header("brings its own key or says where to fetch one")),
    }
}

const REFUSED: [&str; 10] = ["jwk", "jku", "x5c", "x5u", "crit", "b64", "enc", "epk", "zip", THUMBPRINT];
const THUMBPRINT: &str = "x5t";

/// A JSON object in which no member is named twice.
pub(super) fn object(bytes: &[u8], part: &'static str) -> Result<Map<String, Value>, JwtError> {
    match json::parse(bytes) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(JwtError::Json(part)),
    }
}

/// The decoder takes neither padding nor white space, nor bits after the last byte that are not zero.
fn decode(part: &str, name: &'static str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Base64(name))
}

#[cfg(test)]
mod tests;
