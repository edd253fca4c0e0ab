//! Trust bundles as SPIRE's API carries them.

use proto::spire::types::{Bundle as WireBundle, BundleMask, JwtKey, X509Certificate};
use registry::{
    Registry,
    decide::bundle::BundlePatch,
    objects::{Bundle, authority::Kind},
};
use rustls::pki_types::CertificateDer;
use spiffe::{
    bundle::{Bundle as Authorities, JwtAuthority},
    jwk::Jwk,
};

use super::{WireError, id};

/// Every part of a bundle.
pub const WHOLE: BundleMask = BundleMask {
    x509_authorities: true,
    jwt_authorities: true,
    refresh_hint: true,
    sequence_number: true,
    wit_authorities: true,
};

/// A key longer than this is none that is known here: RSA with 4,096 bits has 550 bytes.
const MAX_PUBLIC_KEY: usize = 1024;

/// A whole bundle from the wire; whose it is, the caller has read. Whether an authority is tainted, its own
/// trust domain says, never a foreign one's administrator.
pub fn from_wire(wire: WireBundle) -> Result<Authorities, WireError> {
    let trust_domain = id::trust_domain("trust_domain", &wire.trust_domain)?;
    if !wire.wit_authorities.is_empty() {
        return Err(WireError::field("wit_authorities", "they are not kept here"));
    }
    let x509 =
        wire.x509_authorities.into_iter().map(|authority| CertificateDer::from(authority.asn1.to_vec()));
    let jwt = wire.jwt_authorities.into_iter().map(jwt_authority).collect::<Result<_, _>>()?;
    let refresh_hint =
        u64::try_from(wire.refresh_hint).map_err(|_| WireError::field("refresh_hint", "it is negative"))?;
    Ok(Authorities {
        trust_domain,
        x509_authorities: x509.collect(),
        jwt_authorities: jwt,
        sequence: Some(wire.sequence_number).filter(|sequence| *sequence > 0),
        refresh_hint: Some(refresh_hint).filter(|hint| *hint > 0),
    })
}

/// An update of the parts that the mask names, taken from the wire.
pub fn patch_from_wire(wire: WireBundle, mask: &BundleMask) -> Result<BundlePatch, WireError> {
    Ok(BundlePatch {
        bundle: from_wire(masked(wire, Some(mask)))?,
        x509_authorities: mask.x509_authorities,
        jwt_authorities: mask.jwt_authorities,
        refresh_hint: mask.refresh_hint,
        sequence: mask.sequence_number,
    })
}

fn jwt_authority(wire: JwtKey) -> Result<JwtAuthority, WireError> {
    let refused = |why: &str| WireError::field("jwt_authorities", why);
    if wire.key_id.is_empty() {
        return Err(refused("missing key ID"));
    }
    let key = Some(&wire.public_key)
        .filter(|key| key.len() <= MAX_PUBLIC_KEY)
        .and_then(|key| Jwk::from_public_key(key));
    let key = key.filter(|key| !matches!(key, Jwk::Ed25519 { .. }));
    let key = key.ok_or_else(|| refused("a key is no RSA, P-256, P-384 or P-521 key"))?;
    Ok(JwtAuthority { kid: wire.key_id, key })
}

/// Everything about a bundle. When the server's own keys end and which authorities are tainted, its
/// registry knows; bundle documents do not say.
pub fn to_wire(bundle: &Bundle, registry: &Registry) -> WireBundle {
    let authorities = bundle.authorities();
    let is_own = authorities.trust_domain == *registry.trust_domain();
    let known = || registry.authorities().filter(|_| is_own);
    let certificate = |der: &CertificateDer<'static>| {
        let of = |kind: &Kind| matches!(kind, Kind::X509 { chain } if chain.last().is_some_and(|root| root.0 == der.as_ref()));
        let tainted = known().any(|authority| authority.is_tainted() && of(&authority.kind));
        X509Certificate { asn1: der.to_vec().into(), tainted }
    };
    let key = |authority: &JwtAuthority| {
        let known = known().find(|known| known.id.as_str() == authority.kid);
        JwtKey {
            public_key: authority.key.to_public_key().into(),
            key_id: authority.kid.clone(),
            expires_at: known.map_or(0, |known| known.not_after.unix_seconds()),
            tainted: known.is_some_and(|known| known.is_tainted()),
        }
    };
    WireBundle {
        trust_domain: authorities.trust_domain.as_str().to_owned(),
        x509_authorities: authorities.x509_authorities.iter().map(certificate).collect(),
        jwt_authorities: authorities.jwt_authorities.iter().map(key).collect(),
        refresh_hint: authorities.refresh_hint.and_then(|hint| i64::try_from(hint).ok()).unwrap_or_default(),
        sequence_number: authorities.sequence.unwrap_or_default(),
        wit_authorities: Vec::new(),
    }
}

/// A bundle that is to be set.
pub fn authorities_to_wire(bundle: &Authorities) -> WireBundle {
    let certificate =
        |der: &CertificateDer<'static>| X509Certificate { asn1: der.to_vec().into(), tainted: false };
    let key = |authority: &JwtAuthority| JwtKey {
        public_key: authority.key.to_public_key().into(),
        key_id: authority.kid.clone(),
        expires_at: 0,
        tainted: false,
    };
    WireBundle {
        trust_domain: bundle.trust_domain.as_str().to_owned(),
        x509_authorities: bundle.x509_authorities.iter().map(certificate).collect(),
        jwt_authorities: bundle.jwt_authorities.iter().map(key).collect(),
        refresh_hint: bundle.refresh_hint.and_then(|hint| i64::try_from(hint).ok()).unwrap_or_default(),
        sequence_number: bundle.sequence.unwrap_or_default(),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Setter = fn(&mut WireBundle);
    type Naming = fn(&mut BundleMask);
    const SETTERS: [(Setter, Naming); 5] = [
        (|b| b.x509_authorities = vec![X509Certificate::default()], |m| m.x509_authorities = true),
        (|b| b.jwt_authorities = vec![JwtKey::default()], |m| m.jwt_authorities = true),
        (|b| b.refresh_hint = 7, |m| m.refresh_hint = true),
        (|b| b.sequence_number = 8, |m| m.sequence_number = true),
        (|b| b.wit_authorities = vec![Default::default()], |m| m.wit_authorities = true),
    ];

    proptest! {
        #[test]
        fn a_mask_shows_the_parts_it_names_and_no_other(there in 0_u32..1 << 5, named in 0_u32..1 << 5) {
            let (mut mask, mut full) = (BundleMask::default(), WireBundle::default());
            let mut expected = WireBundle::default();
            for (n, (set, name)) in SETTERS.iter().enumerate() {
                if there & (1 << n) != 0 { set(&mut full) }
                if named & (1 << n) != 0 { name(&mut mask) }
                if there & named & (1 << n) != 0 { set(&mut expected) }
            }
            prop_assert_eq!(masked(full, Some(&mask)), expected);
        }
    }

    #[test]
    fn what_is_no_bundle_is_refused_with_the_name_of_the_part() {
        let good = WireBundle { trust_domain: "other.example".into(), ..WireBundle::default() };
        assert!(from_wire(good.clone()).is_ok());
        for (spoil, name) in [
            ((|b| b.trust_domain = "Not A Name".into()) as Setter, "trust_domain"),
            (|b| b.refresh_hint = -1, "refresh_hint"),
            (|b| b.jwt_authorities = vec![JwtKey::default()], "jwt_authorities"),
            (
                |b| b.jwt_authorities = vec![JwtKey { key_id: "k".into(), ..JwtKey::default() }],
                "jwt_authorities",
            ),
            (|b| b.wit_authorities = vec![Default::default()], "wit_authorities"),
        ] {
            let mut wire = good.clone();
            spoil(&mut wire);
            let error = from_wire(wire).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
