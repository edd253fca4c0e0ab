//! Writing JWT-SVIDs: claims and header are put together here, the key stays with whoever calls.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use super::Algorithm;
use crate::{SpiffeId, Timestamp};

/// What a JWT-SVID says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    /// Whom it names.
    pub sub: SpiffeId,
    /// For whom it is meant; whoever signs sees to it that there is at least one.
    pub aud: Vec<String>,
    /// When it was signed; written in whole seconds.
    pub iat: Timestamp,
    /// When it ends; written in whole seconds.
    pub exp: Timestamp,
    /// A name of its own, where the entry asks for one.
    pub jti: Option<String>,
}

/// Writes a JWT-SVID under ES256. `signer` signs the bytes it is given with the key that the bundle
/// names `kid`, and answers the signature's two numbers one after the other, 64 bytes.
pub fn sign<E>(
    claims: &Claims,
    kid: &str,
    signer: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let payload = Payload {
        aud: &claims.aud,
        exp: claims.exp.unix_seconds(),
        iat: claims.iat.unix_seconds(),
        jti: claims.jti.as_deref(),
        sub: claims.sub.as_str(),
    };
    write("JWT", &payload, kid, signer)
}

/// Writes a token of this type under ES256.
pub(super) fn write<E>(
    typ: &str,
    payload: &impl Serialize,
    kid: &str,
    signer: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let header = Header { alg: Algorithm::ES256.name(), kid, typ };
    let mut token = encode(&header) + "." + &encode(payload);
    let signature = signer(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: &'a str,
}

#[derive(Serialize)]
struct Payload<'a> {
    aud: &'a [String],
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    sub: &'a str,
}

fn encode(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("texts and numbers can always be written as JSON"))
}
