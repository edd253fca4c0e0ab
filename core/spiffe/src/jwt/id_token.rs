//! ID tokens of OpenID Connect (Core 1.0, sections 2 and 3.1.3.7), as issuers give them to machines: who a
//! runner of a pipeline is, or a service account.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};

use super::{
    Compact, JwtError, KeySet,
    compact::object,
    svid::{LEEWAY, check_times},
};
use crate::{Timestamp, jwk::text};

/// The longest that a token may have before it: nothing is remembered for longer.
pub const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a valid token says.
#[derive(Clone, Debug, PartialEq)]
pub struct IdToken {
    /// Who it is about, in the issuer's words.
    pub subject: String,
    /// From then on nobody accepts it, however its clock goes.
    pub until: Timestamp,
    /// All its claims, as they were signed.
    pub claims: Map<String, Value>,
    /// SHA-256 of what was signed. The same token with another signature has the same one.
    pub signed_sha256: [u8; 32],
}

/// The issuer that a token names. Good for nothing but choosing whose keys to verify it with.
pub fn unverified_issuer(token: &Compact<'_>) -> Option<String> {
    let claims = object(token.unverified_payload(), "payload").ok()?;
    text(&claims, "iss").map(str::to_owned)
}

/// Verifies a token of `issuer` with its keys. It must be meant for `audience` and for nobody else, since
/// whoever else it is meant for could show it here.
pub fn validate(
    token: &Compact<'_>,
    issuer: &str,
    audience: &str,
    keys: &KeySet,
    now: Timestamp,
) -> Result<IdToken, JwtError> {
    match token.header().get("typ").map(Value::as_str) {
        None => {}
        Some(Some(typ)) if typ.eq_ignore_ascii_case("JWT") => {}
        Some(_) => return Err(JwtError::Header("has a typ that is not JWT")),
    }
    // From here on, only what the key signed is read.
    let claims = object(keys.verify(token)?, "payload")?;
    if text(&claims, "iss") != Some(issuer) {
        return Err(JwtError::Claim("iss", "is not the issuer whose keys these are"));
    }
    let subject = text(&claims, "sub").filter(|subject| !subject.is_empty());
    let subject = subject.ok_or(JwtError::Claim("sub", "is missing or not a text"))?.to_owned();
    check_audience(&claims, audience)?;
    let expires_at = check_times(&claims, now)?;
    if expires_at > now + MAX_LIFE {
        return Err(JwtError::Claim("exp", "is more than a day away"));
    }
    let mut signed_sha256 = [0; 32];
    signed_sha256.copy_from_slice(digest(&SHA256, token.signed()).as_ref());
    Ok(IdToken { subject, until: expires_at + LEEWAY + LEEWAY, claims, signed_sha256 })
}

fn check_audience(claims: &Map<String, Value>, audience: &str) -> Result<(), JwtError> {
    let aud = match claims.get("aud") {
        None => return Err(JwtError::Claim("aud", "is missing")),
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
    };
    match aud {
        [Value::String(only)] if only == audience => Ok(()),
        [Value::String(_)] => Err(JwtError::Audience),
        _ => Err(JwtError::Claim("aud", "is not one text: others could show the token too")),
    }
}

#[cfg(test)]
mod tests;
