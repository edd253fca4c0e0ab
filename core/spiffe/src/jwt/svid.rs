//! JWT-SVIDs: tokens that name exactly one workload, verified with the keys of that workload's own
//! trust domain (JWT-SVID standard).

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Compact, JwtError, compact::object};
use crate::{Bundles, SpiffeId, Timestamp, jwk::text};

/// How far the clocks of two hosts may differ (JWT-SVID appendix A allows a small amount of leeway;
/// go-spiffe allows this one).
pub const LEEWAY: Duration = Duration::from_secs(60);

/// What a valid token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// When it ends.
    pub expires_at: Timestamp,
    /// All its claims, as they were signed.
    pub claims: Map<String, Value>,
}

/// Verifies a token and says whom it names. It must be meant for one of `audiences`: whoever asks
/// with none is meant by no token.
///
/// Only the bundle of the subject's own trust domain counts, whoever else is trusted here.
pub fn validate(
    token: &str,
    audiences: &[impl AsRef<str>],
    bundles: &Bundles,
    now: Timestamp,
) -> Result<Validated, JwtError> {
    let token = Compact::parse(token)?;
    check_header(token.header())?;
    let trust_domain = subject(&object(token.unverified_payload(), "payload")?)?.trust_domain();
    let bundle = bundles.get(trust_domain.as_str()).ok_or(JwtError::UnknownTrustDomain(trust_domain))?;
    let named = |kid: &str| token.kid.as_deref().is_none_or(|wanted| wanted == kid);
    let keys = bundle.jwt_authorities.iter().filter(|it| named(&it.kid)).map(|it| &it.key);
    // From here on, only what the key signed is read.
    let claims = object(token.verify(keys)?, "payload")?;
    let spiffe_id = subject(&claims)?;
    check_audience(&claims, audiences)?;
    let expires_at = check_times(&claims, now)?;
    for name in ["iss", "jti"] {
        if claims.get(name).is_some_and(|claim| !claim.is_string()) {
            return Err(JwtError::Claim(name, "is not a text"));
        }
    }
    Ok(Validated { spiffe_id, expires_at, claims })
}

/// Section 2: any other header must not be there.
fn check_header(header: &Map<String, Value>) -> Result<(), JwtError> {
    if header.keys().any(|name| !matches!(name.as_str(), "alg" | "kid" | "typ")) {
        return Err(JwtError::Header("has something beside alg, kid and typ"));
    }
    match header.get("typ").map(Value::as_str) {
        None | Some(Some("JWT" | "JOSE")) => Ok(()), // section 2.3
        Some(_) => Err(JwtError::Header("has a typ that is neither JWT nor JOSE")),
    }
}

/// Section 3.1: a workload's SPIFFE ID. A trust domain's own, without a path, names no workload.
fn subject(claims: &Map<String, Value>) -> Result<SpiffeId, JwtError> {
    let id: SpiffeId =
        text(claims, "sub").ok_or(JwtError::Claim("sub", "is missing or not a text"))?.parse()?;
    match id.path() {
        "" => Err(JwtError::Claim("sub", "names a trust domain and no workload")),
        _ => Ok(id),
    }
}

/// Section 3.2, RFC 7519 section 4.1.3: one text or a list of them.
fn check_audience(claims: &Map<String, Value>, audiences: &[impl AsRef<str>]) -> Result<(), JwtError> {
    let aud = match claims.get("aud") {
        None => return Err(JwtError::Claim("aud", "is missing")),
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
    };
    if !aud.iter().all(Value::is_string) {
        return Err(JwtError::Claim("aud", "is not a text or a list of texts"));
    }
    let meant = |wanted: &str| aud.iter().any(|value| value.as_str() == Some(wanted));
    if audiences.iter().any(|wanted| meant(wanted.as_ref())) { Ok(()) } else { Err(JwtError::Audience) }
}

/// Section 3.3 and RFC 7519 sections 4.1.4 to 4.1.6. A token from the future shows that a clock is
/// wrong, and with it every other date.
pub(super) fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, JwtError> {
    let expires_at = date(claims, "exp")?.ok_or(JwtError::Claim("exp", "is missing"))?;
    if now > expires_at + LEEWAY {
        return Err(JwtError::Expired(expires_at));
    }
    for name in ["nbf", "iat"] {
        match date(claims, name)? {
            Some(begins_at) if now + LEEWAY < begins_at => return Err(JwtError::TooEarly(begins_at)),
            _ => {}
        }
    }
    Ok(expires_at)
}

/// RFC 7519 section 2: seconds since the epoch, fractions allowed.
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, JwtError> {
    let malformed = JwtError::Claim(name, "is not a date: a number of seconds, before the year 10000");
    let seconds = match claims.get(name) {
        None => return Ok(None),
        Some(claim) => claim.as_f64().ok_or_else(|| malformed.clone())?,
    };
    if !(FIRST_SECOND..=LAST_SECOND).contains(&seconds) {
        return Err(malformed);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was just checked")]
    Ok(Some(Timestamp::from_unix_millis((seconds * 1000.0).floor() as i64)))
}

/// The years 1 to 9999.
const FIRST_SECOND: f64 = -62_135_596_800.0;
const LAST_SECOND: f64 = 253_402_300_799.0;

#[cfg(test)]
mod tests;
