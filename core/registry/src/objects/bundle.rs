//! Trust bundles as the log keeps them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spiffe::{
    TrustDomain,
    bundle::{Bundle as Authorities, BundleError},
};

use super::AuthorityId;

/// The trust bundle of one trust domain: its SPIFFE bundle document with the name beside it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Bundle {
    authorities: Authorities,
    /// As it came: what is not understood here is passed on too.
    document: Value,
    tainted: Tainted,
}

/// Authorities of a bundle that must not be relied on any longer. They are published still, so that
/// what they signed goes on working until it is replaced, which is to happen at once.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tainted {
    /// Subject key identifiers of certificates.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub x509: BTreeSet<AuthorityId>,
    /// `kid`s of JWT keys.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub jwt: BTreeSet<String>,
}

impl Tainted {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.x509.is_empty() && self.jwt.is_empty()
    }
}

impl Bundle {
    /// The bundle with these authorities.
    pub fn new(authorities: Authorities) -> Result<Self, BundleError> {
        let document = authorities.to_document()?;
        let document =
            serde_json::from_slice(&document).map_err(|error| BundleError::Json(error.to_string()))?;
        Ok(Self { authorities, document, tainted: Tainted::default() })
    }

    /// The same bundle, of which these authorities are tainted.
    #[must_use]
    pub fn with_tainted(self, tainted: Tainted) -> Self {
        Self { tainted, ..self }
    }

    /// The same bundle under another sequence number.
    pub(crate) fn with_sequence(&self, sequence: u64) -> Result<Self, BundleError> {
        let authorities = Authorities { sequence: Some(sequence), ..self.authorities.clone() };
        Ok(Self::new(authorities)?.with_tainted(self.tainted.clone()))
    }

    /// Which of its authorities are tainted.
    pub fn tainted(&self) -> &Tainted {
        &self.tainted
    }

    /// Whose authorities these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.authorities.trust_domain
    }

    /// The authorities.
    pub fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// The SPIFFE bundle document (JWKS with `spiffe_sequence` and `spiffe_refresh_hint`).
    pub fn document(&self) -> Vec<u8> {
        self.document.to_string().into_bytes()
    }
}

/// A bundle as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Form {
    trust_domain: TrustDomain,
    document: Value,
    #[serde(default, skip_serializing_if = "Tainted::is_empty")]
    tainted: Tainted,
}

impl TryFrom<Form> for Bundle {
    type Error = BundleError;
    fn try_from(form: Form) -> Result<Self, BundleError> {
        let authorities = Authorities::parse(form.trust_domain, form.document.to_string().as_bytes())?;
        Ok(Self { authorities, document: form.document, tainted: form.tainted })
    }
}

impl From<Bundle> for Form {
    fn from(bundle: Bundle) -> Self {
        let Bundle { authorities, document, tainted } = bundle;
        Self { trust_domain: authorities.trust_domain, document, tainted }
    }
}
