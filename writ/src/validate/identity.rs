//! The operations on SPIFFE's own nouns.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use spiffe::{Bundle, Bundles, SpiffeId, TrustDomain, x509::svid};

use super::{Outcome, input};

pub(super) fn spiffe_id(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input {
        id_b64: String,
    }
    let Input { id_b64 } = input::parse(members)?;
    let id: SpiffeId = input::text(&id_b64)?.parse().map_err(|error| format!("not a SPIFFE ID: {error}"))?;
    Ok(json!({ "trust_domain": id.trust_domain_name(), "path": id.path() }))
}

pub(super) fn trust_domain(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input {
        s_b64: String,
    }
    let Input { s_b64 } = input::parse(members)?;
    Ok(json!({ "trust_domain": name(&input::text(&s_b64)?)? }))
}

pub(super) fn x509svid_verify(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input {
        chain_der_b64: Vec<String>,
        bundles: BTreeMap<String, Vec<String>>,
        now: String,
    }
    let Input { chain_der_b64, bundles, now } = input::parse(members)?;
    let chain = input::certificates(&chain_der_b64)?;
    let bundles = bundles.iter().map(|(trust_domain, authorities)| {
        let x509_authorities = input::certificates(authorities)?;
        Ok::<_, String>(Bundle { x509_authorities, ..Bundle::empty(name(trust_domain)?) })
    });
    let bundles: Bundles = bundles.collect::<Result<Vec<_>, _>>()?.into_iter().collect();
    let id = svid::verify(&chain, &bundles, input::time(&now)?).map_err(|error| error.to_string())?;
    Ok(json!({ "spiffe_id": id.as_str() }))
}

/// The value counts the authorities, of which a suite knows what it put in.
pub(super) fn bundle_parse(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input {
        trust_domain: String,
        doc_b64: String,
    }
    let Input { trust_domain, doc_b64 } = input::parse(members)?;
    let bundle =
        Bundle::parse(name(&trust_domain)?, &input::bytes(&doc_b64)?).map_err(|error| error.to_string())?;
    Ok(json!({
        "x509_authorities": bundle.x509_authorities.len(),
        "jwt_authorities": bundle.jwt_authorities.len(),
        "sequence": bundle.sequence,
        "refresh_hint": bundle.refresh_hint,
    }))
}

pub(super) fn name(text: &str) -> Result<TrustDomain, String> {
    text.parse().map_err(|error| format!("not a trust domain: {error}"))
}
