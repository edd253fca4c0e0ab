//! The operations on signatures, keys and signed tokens.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use spiffe::{
    Bundle, Bundles,
    jwt::{Algorithm, Compact, EcdsaForm, KeySet, svid},
};

use super::{Outcome, identity::name, input};

pub(super) fn jwtsvid_validate(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input<'a> {
        token: String,
        audience: Vec<String>,
        #[serde(borrow)]
        jwks: BTreeMap<String, &'a RawValue>,
        now: String,
    }
    let Input { token, audience, jwks, now } = input::parse(members)?;
    let bundles = jwks.iter().map(|(trust_domain, keys)| {
        Bundle::parse_jwt(name(trust_domain)?, keys.get().as_bytes()).map_err(|error| error.to_string())
    });
    let bundles: Bundles = bundles.collect::<Result<Vec<_>, _>>()?.into_iter().collect();
    let valid =
        svid::validate(&token, &audience, &bundles, input::time(&now)?).map_err(|error| error.to_string())?;
    Ok(json!({ "spiffe_id": valid.spiffe_id.as_str(), "claims": valid.claims }))
}

pub(super) fn jws_verify(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input<'a> {
        #[serde(borrow)]
        jwk: &'a RawValue,
        jws: String,
    }
    let Input { jwk, jws } = input::parse(members)?;
    let keys = keys(jwk)?;
    let jws = Compact::parse(&jws).map_err(|error| error.to_string())?;
    let payload = keys.verify(&jws).map_err(|error| error.to_string())?;
    Ok(json!({ "payload_b64": STANDARD.encode(payload) }))
}

pub(super) fn jwk_parse(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input<'a> {
        #[serde(borrow)]
        jwk: &'a RawValue,
    }
    let Input { jwk } = input::parse(members)?;
    keys(jwk)?.check_each().map_err(|error| error.to_string())?;
    Ok(Value::Null)
}

/// The kind of key says how an ECDSA signature is written: X.509's keys go with DER, JWKs with JWS's form.
pub(super) fn sig_verify(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input<'a> {
        alg: String,
        key_der_b64: Option<String>,
        #[serde(borrow)]
        jwk: Option<&'a RawValue>,
        message_b64: String,
        signature_b64: String,
    }
    let Input { alg, key_der_b64, jwk, message_b64, signature_b64 } = input::parse(members)?;
    let algorithm = Algorithm::named(&alg).ok_or("alg is not one of RS, PS or ES with 256, 384 or 512")?;
    let (keys, form) = match (key_der_b64, jwk) {
        (Some(der), None) => {
            let keys = KeySet::from_public_key(&input::bytes(&der)?);
            (keys.ok_or("the key is not one that is verified with here")?, EcdsaForm::Der)
        }
        (None, Some(jwk)) => (keys(jwk)?, EcdsaForm::Fixed),
        _ => return Err("a key is given by exactly one of key_der_b64 and jwk".to_owned()),
    };
    keys.check_each().map_err(|error| error.to_string())?;
    let key = keys.only(algorithm).ok_or("the key is not one for this algorithm")?;
    let (message, signature) = (input::bytes(&message_b64)?, input::bytes(&signature_b64)?);
    algorithm.verify(key, form, &message, &signature).map_err(|error| error.to_string())?;
    Ok(Value::Null)
}

/// The text of the keys is read as it came: parsing it twice would hide a member that is there twice.
fn keys(jwk: &RawValue) -> Result<KeySet, String> {
    KeySet::parse(jwk.get().as_bytes()).map_err(|error| error.to_string())
}
