//! Trust bundles as SPIRE's API carries them, on their way in.

use proto::spire::types::Bundle as WireBundle;
use registry::objects::Bundle;
use spiffe::{Bundle as Authorities, Jwk, JwtAuthority};

use super::{WireError, id};

/// A whole bundle from the wire. Each authority must be one that can vouch for something.
pub fn from_wire(wire: WireBundle) -> Result<Bundle, WireError> {
    if wire.x509_authorities.len() + wire.jwt_authorities.len() > MOST_AUTHORITIES {
        return Err(WireError(format!("a bundle of more than {MOST_AUTHORITIES} authorities")));
    }
    let mut bundle = Authorities::empty(id::trust_domain("trust_domain", &wire.trust_domain)?);
    bundle.x509_authorities =
        wire.x509_authorities.into_iter().map(|authority| authority.asn1.to_vec().into()).collect();
    for key in wire.jwt_authorities {
        let unusable =
            || WireError::field("jwt_authorities", format_args!("key {:?} is of no use", key.key_id));
        let jwk = Jwk::from_public_key(&key.public_key).filter(|_| !key.key_id.is_empty());
        bundle.jwt_authorities.push(JwtAuthority { key: jwk.ok_or_else(unusable)?, kid: key.key_id });
    }
    bundle.sequence = Some(wire.sequence_number);
    bundle.refresh_hint = u64::try_from(wire.refresh_hint).ok().filter(|hint| *hint > 0);
    // Whatever cannot be written as a bundle document is refused here, certificates that are none as well.
    Bundle::new(bundle).map_err(|error| WireError::field("bundle", error))
}

const MOST_AUTHORITIES: usize = 1000;

#[cfg(test)]
mod tests {
    use proto::spire::types::{JwtKey, X509Certificate};
    use spiffe::PrivateKey;

    use super::*;

    fn key(kid: &str) -> JwtKey {
        let public_key = PrivateKey::generate().unwrap().public_key().unwrap().into();
        JwtKey { public_key, key_id: kid.into(), ..JwtKey::default() }
    }

    fn wire(jwt_authorities: Vec<JwtKey>) -> WireBundle {
        WireBundle {
            trust_domain: "acme.example".into(),
            jwt_authorities,
            sequence_number: 7,
            refresh_hint: 300,
            ..WireBundle::default()
        }
    }

    #[test]
    fn a_bundle_arrives_whole() {
        let bundle = from_wire(wire(vec![key("a"), key("b")])).unwrap();
        let authorities = bundle.authorities();
        assert_eq!(authorities.trust_domain.as_str(), "acme.example");
        assert_eq!((authorities.sequence, authorities.refresh_hint), (Some(7), Some(300)));
        let kids: Vec<_> = authorities.jwt_authorities.iter().map(|jwt| jwt.kid.as_str()).collect();
        assert_eq!(kids, ["a", "b"]);
    }

    #[test]
    fn an_authority_that_can_vouch_for_nothing_spoils_the_bundle() {
        let mut nameless = key("");
        assert!(from_wire(wire(vec![nameless.clone()])).is_err());
        nameless = JwtKey { public_key: b"no key".as_slice().into(), ..key("a") };
        assert!(from_wire(wire(vec![nameless])).is_err());
        assert!(from_wire(wire(vec![key("a"), key("a")])).is_err(), "one name for two keys");
        let garbage = X509Certificate { asn1: b"no certificate".as_slice().into(), tainted: false };
        assert!(from_wire(WireBundle { x509_authorities: vec![garbage], ..wire(vec![]) }).is_err());
        assert!(from_wire(wire(vec![key("a"); MOST_AUTHORITIES + 1])).is_err());
    }
}
