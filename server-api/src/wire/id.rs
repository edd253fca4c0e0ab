//! SPIFFE IDs in SPIRE's two parts.

use proto::spire::types::Spiffeid;
use spiffe::{SpiffeId, TrustDomain};

use super::WireError;

/// The ID in field `name`, which must be there.
pub fn from_wire(name: &str, id: Option<Spiffeid>) -> Result<SpiffeId, WireError> {
    let id = id.ok_or_else(|| WireError::field(name, "it is missing"))?;
    let trust_domain: TrustDomain = trust_domain(name, &id.trust_domain)?;
    trust_domain.join(&id.path).map_err(|error| WireError::field(name, error))
}

/// The trust domain in field `name`; SPIRE's clients write it with or without the scheme.
pub fn trust_domain(name: &str, text: &str) -> Result<TrustDomain, WireError> {
    let bare = text.strip_prefix("spiffe://").unwrap_or(text);
    bare.parse().map_err(|error| WireError::field(name, error))
}

/// The ID in two parts.
pub fn to_wire(id: &SpiffeId) -> Spiffeid {
    Spiffeid { trust_domain: id.trust_domain_name().to_owned(), path: id.path().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(trust_domain: &str, path: &str) -> Option<Spiffeid> {
        Some(Spiffeid { trust_domain: trust_domain.to_owned(), path: path.to_owned() })
    }

    #[test]
    fn an_id_survives_its_two_parts() {
        let id: SpiffeId = "spiffe://acme.example/agent/triage".parse().unwrap();
        assert_eq!(from_wire("spiffe_id", Some(to_wire(&id))), Ok(id));
    }

    #[test]
    fn parts_cannot_be_joined_into_another_id() {
        for (trust_domain, path) in [
            ("", "/a"),
            ("acme.example", "a"),
            ("acme.example", "/a/../b"),
            ("acme.example", "/a%2e"),
            ("acme.example/x", "/a"),
            ("acme.example", "//a"),
            ("acme.example", "/a?b"),
        ] {
            assert!(from_wire("spiffe_id", wire(trust_domain, path)).is_err(), "{trust_domain:?} {path:?}");
        }
        let missing = from_wire("parent_id", None).unwrap_err();
        assert_eq!(missing.to_string(), "parent_id: it is missing");
    }
}
