//! Tokens of a trust domain's JWT authorities that are no JWT-SVIDs: grants of tasks and transaction tokens. Their
//! `typ` says so, and neither a JWT-SVID validator nor one of the other kind takes them (RFC 8725 section 3.11).

use serde_json::{Map, Value};

use super::{Compact, JwtError, compact::object, sign::write, svid::check_times};
use crate::{Bundle, Timestamp, jwk::text};

/// What a token is, if it is no JWT-SVID.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// The server's statement that a task was granted.
    Grant,
    /// A transaction token of a task (draft-ietf-oauth-transaction-tokens).
    Transaction,
}

/// The longest grant, in bytes: it holds the whole task.
const MAX_GRANT_BYTES: usize = 512 * 1024;

impl Type {
    /// As `typ` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "writ-grant+jwt",
            Self::Transaction => "txntoken+jwt",
        }
    }

    fn longest(self) -> usize {
        match self {
            Self::Grant => MAX_GRANT_BYTES,
            Self::Transaction => super::MAX_TOKEN_BYTES,
        }
    }
}

/// Writes a token of this type under ES256; `signer` as in [`super::sign`].
pub fn sign_typed<E>(
    typ: Type,
    claims: &Map<String, Value>,
    kid: &str,
    signer: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    write(typ.as_str(), claims, kid, signer)
}

/// The claims of a token of exactly this type, signed by an authority of the bundle's trust domain, issued by
/// that trust domain, and valid now.
pub fn validate_typed(
    typ: Type,
    token: &str,
    bundle: &Bundle,
    now: Timestamp,
) -> Result<Map<String, Value>, JwtError> {
    let token = Compact::parse_within(token, typ.longest())?;
    let is_typ = |header: Option<&Value>| header.and_then(Value::as_str) == Some(typ.as_str());
    if !is_typ(token.header().get("typ")) {
        return Err(JwtError::Header("has another typ"));
    }
    let wanted = token.kid.as_deref().ok_or(JwtError::NoKey)?;
    let keys = bundle.jwt_authorities.iter().filter(|authority| authority.kid == wanted).map(|it| &it.key);
    let claims = object(token.verify(keys)?, "payload")?;
    if text(&claims, "iss") != Some(bundle.trust_domain.id().as_str()) {
        return Err(JwtError::Claim("iss", "is not the trust domain whose keys these are"));
    }
    check_times(&claims, now)?;
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
    };
    use serde_json::json;

    use super::*;
    use crate::{Bundles, Jwk, JwtAuthority, PrivateKey, jwt::svid};

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn signed(typ: Type, fields: Value) -> (String, Bundle) {
        let key = PrivateKey::generate().unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.pkcs8()).unwrap();
        let mut bundle = Bundle::empty("acme.example".parse().unwrap());
        let jwk = Jwk::from_public_key(&key.public_key().unwrap()).unwrap();
        bundle.jwt_authorities = vec![JwtAuthority { kid: "k".to_owned(), key: jwk }];
        // It could pass for a JWT-SVID in all but its type.
        let mut claims = json!({
            "iss": "spiffe://acme.example", "sub": "spiffe://acme.example/agent/triage", "aud": ["api"],
            "iat": NOW.unix_seconds(), "exp": NOW.unix_seconds() + 60,
        });
        for (name, value) in fields.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let sign = |bytes: &[u8]| pair.sign(&SystemRandom::new(), bytes).map(|it| it.as_ref().to_vec());
        (sign_typed(typ, claims.as_object().unwrap(), "k", sign).unwrap(), bundle)
    }

    #[test]
    fn each_type_is_taken_for_itself_and_for_nothing_else() {
        for (typ, other) in [(Type::Grant, Type::Transaction), (Type::Transaction, Type::Grant)] {
            let (token, bundle) = signed(typ, json!({}));
            assert_eq!(validate_typed(typ, &token, &bundle, NOW).unwrap()["exp"], 1_800_000_060);
            assert_eq!(validate_typed(other, &token, &bundle, NOW), Err(JwtError::Header("has another typ")));
            let bundles: Bundles = [bundle].into_iter().collect();
            let refused = svid::validate(&token, &["api"], &bundles, NOW).unwrap_err();
            assert_eq!(refused, JwtError::Header("has a typ that is neither JWT nor JOSE"));
        }
    }

    #[test]
    fn another_issuer_a_strange_key_and_another_time_are_refused() {
        let (token, bundle) = signed(Type::Grant, json!({}));
        let (_, other) = signed(Type::Grant, json!({}));
        assert_eq!(validate_typed(Type::Grant, &token, &other, NOW), Err(JwtError::Signature));
        let later = NOW + Duration::from_secs(121);
        assert!(matches!(validate_typed(Type::Grant, &token, &bundle, later), Err(JwtError::Expired(_))));
        let (token, bundle) = signed(Type::Grant, json!({ "iss": "spiffe://other.example" }));
        assert!(matches!(validate_typed(Type::Grant, &token, &bundle, NOW), Err(JwtError::Claim("iss", _))));
    }
}
