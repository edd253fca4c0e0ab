//! Trust bundles as SPIRE's API carries them.

use proto::spire::types::{Bundle as WireBundle, BundleMask, JwtKey, X509Certificate};
use registry::objects::Bundle;

/// Everything about a bundle.
pub fn to_wire(bundle: &Bundle) -> WireBundle {
    let authorities = bundle.authorities();
    let x509 = authorities.x509_authorities.iter();
    let jwt = authorities.jwt_authorities.iter();
    WireBundle {
        trust_domain: authorities.trust_domain.as_str().to_owned(),
        x509_authorities: x509
            .map(|der| X509Certificate { asn1: der.to_vec().into(), tainted: false })
            .collect(),
        jwt_authorities: jwt
            .map(|authority| JwtKey {
                public_key: authority.key.to_public_key().into(),
                key_id: authority.kid.clone(),
                expires_at: 0, // a bundle document does not say
                tainted: false,
            })
            .collect(),
        refresh_hint: authorities.refresh_hint.and_then(|hint| i64::try_from(hint).ok()).unwrap_or_default(),
        sequence_number: authorities.sequence.unwrap_or_default(),
        wit_authorities: Vec::new(),
    }
}

/// Keeps only what the mask names, and the trust domain; without a mask everything stays.
pub fn masked(bundle: WireBundle, mask: Option<&BundleMask>) -> WireBundle {
    let Some(mask) = mask else { return bundle };
    WireBundle {
        trust_domain: bundle.trust_domain,
        x509_authorities: kept(mask.x509_authorities, bundle.x509_authorities),
        jwt_authorities: kept(mask.jwt_authorities, bundle.jwt_authorities),
        refresh_hint: kept(mask.refresh_hint, bundle.refresh_hint),
        sequence_number: kept(mask.sequence_number, bundle.sequence_number),
        wit_authorities: kept(mask.wit_authorities, bundle.wit_authorities),
    }
}

fn kept<T: Default>(keep: bool, value: T) -> T {
    if keep { value } else { T::default() }
}
