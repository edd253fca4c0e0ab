//! Authorities: what the CA's slots publish. Their private keys are elsewhere.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spiffe::Timestamp;

use super::checked_text;

checked_text! {
    /// An authority's key identifier, lower-case hex: the subject key identifier of its certificates, the
    /// `kid` of its tokens.
    AuthorityId,
    |text| (2..=128).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
    "is not an authority id: the key identifier in lower-case hex"
}

/// A key of this trust domain that vouches for SVIDs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Authority {
    /// Its key identifier.
    pub id: AuthorityId,
    /// Where it stands in rotation.
    pub slot: Slot,
    /// What it signs, and what others verify that with.
    pub kind: Kind,
    /// First moment of its validity.
    pub not_before: Timestamp,
    /// Last moment of its validity.
    pub not_after: Timestamp,
}

/// What an authority signs, and what others verify that with.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// X509-SVIDs.
    X509 {
        /// Its certificate first, then any up to (and with) the root. The last one is published.
        chain: Vec<Der>,
    },
    /// JWT-SVIDs.
    Jwt {
        /// SubjectPublicKeyInfo.
        public_key: Der,
    },
}

/// What authorities are for. Each use has slots of its own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// X509-SVIDs.
    X509,
    /// JWT-SVIDs.
    Jwt,
}

impl Use {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::X509, Self::Jwt];
}

impl Kind {
    /// What it is for.
    pub fn used_for(&self) -> Use {
        match self {
            Self::X509 { .. } => Use::X509,
            Self::Jwt { .. } => Use::Jwt,
        }
    }
}

impl Authority {
    /// What it is for.
    pub fn used_for(&self) -> Use {
        self.kind.used_for()
    }

    /// Whether nobody should go on using what it signed.
    pub fn is_tainted(&self) -> bool {
        matches!(self.slot, Slot::Old { tainted: true, .. })
    }
}

/// Where an authority stands in rotation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Slot {
    /// Published, so that everyone knows it before it signs.
    Prepared,
    /// The one that signs.
    Active,
    /// Published until the last SVID under it has ended.
    Old {
        /// When that is.
        retire_at: Timestamp,
        /// Its key may be in other hands: whatever it signed is replaced at once.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tainted: bool,
    },
}

/// DER; base64 in JSON.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Der(pub Bytes);

/// An authority as it is written: the kind shows in which member is there.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Form {
    id: AuthorityId,
    slot: Slot,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chain: Option<Vec<Der>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<Der>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl TryFrom<Form> for Authority {
    type Error = &'static str;
    fn try_from(form: Form) -> Result<Self, Self::Error> {
        let Form { id, slot, chain, public_key, not_before, not_after } = form;
        let kind = match (chain, public_key) {
            (Some(chain), None) => Kind::X509 { chain },
            (None, Some(public_key)) => Kind::Jwt { public_key },
            _ => return Err("an authority has either a chain or a public key"),
        };
        Ok(Self { id, slot, kind, not_before, not_after })
    }
}

impl From<Authority> for Form {
    fn from(authority: Authority) -> Self {
        let Authority { id, slot, kind, not_before, not_after } = authority;
        let (chain, public_key) = match kind {
            Kind::X509 { chain } => (Some(chain), None),
            Kind::Jwt { public_key } => (None, Some(public_key)),
        };
        Self { id, slot, chain, public_key, not_before, not_after }
    }
}

impl Serialize for Der {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        let der = base64::engine::general_purpose::STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(der.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As every log of the first release has it.
    const FIRST: &str = r#"{"id":"ab01","slot":{"is":"old","retire_at":"2026-01-01T01:00:00Z"},"chain":["AQID"],"not_before":"2026-01-01T00:00:00Z","not_after":"2026-01-02T00:00:00Z"}"#;

    #[test]
    fn an_authority_of_the_first_release_is_read_and_written_as_it_was() {
        let authority: Authority = serde_json::from_str(FIRST).unwrap();
        assert_eq!(authority.kind, Kind::X509 { chain: vec![Der(Bytes::from_static(&[1, 2, 3]))] });
        assert!(!authority.is_tainted());
        assert_eq!(serde_json::to_string(&authority).unwrap(), FIRST);
    }

    #[test]
    fn a_jwt_authority_and_a_taint_survive_the_log() {
        let authority: Authority = serde_json::from_str(FIRST).unwrap();
        let slot = Slot::Old { retire_at: authority.not_after, tainted: true };
        let kind = Kind::Jwt { public_key: Der(Bytes::from_static(&[4])) };
        let authority = Authority { slot, kind, ..authority };
        let json = serde_json::to_string(&authority).unwrap();
        assert_eq!(serde_json::from_str::<Authority>(&json).unwrap(), authority);
    }

    #[test]
    fn an_authority_that_is_of_two_kinds_or_of_none_is_refused() {
        let both = FIRST.replace(r#""chain""#, r#""public_key":"AQ==","chain""#);
        let none = FIRST.replace(r#""chain":["AQID"],"#, "");
        for wrong in [both, none] {
            assert!(serde_json::from_str::<Authority>(&wrong).is_err(), "{wrong}");
        }
    }
}
