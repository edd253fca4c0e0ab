//! X.509 authorities: the certificates of the CA's slots. Their keys are elsewhere.

use serde::{Deserialize, Serialize};
use spiffe::Timestamp;

use super::checked_text;

checked_text! {
    /// An authority's subject key identifier, lower-case hex.
    AuthorityId,
    |text| (2..=128).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
    "is not an authority id: the subject key identifier in lower-case hex"
}

/// A certificate authority of this trust domain.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Its subject key identifier.
    pub id: AuthorityId,
    /// Where it stands in rotation.
    pub slot: Slot,
    /// Its certificate first, then any up to (and with) the root, DER in base64. The last one is published.
    pub chain: Vec<CertificateDer>,
    /// First moment of its certificate's validity.
    pub not_before: Timestamp,
    /// Last moment of its certificate's validity.
    pub not_after: Timestamp,
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
    },
}

/// A certificate in DER; base64 in JSON.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CertificateDer(pub bytes::Bytes);

impl Serialize for CertificateDer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for CertificateDer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        let der = base64::engine::general_purpose::STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(der.into()))
    }
}
