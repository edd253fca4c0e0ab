//! Trust bundles as the log keeps them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spiffe::{
    TrustDomain,
    bundle::{Bundle as Authorities, BundleError},
};

/// The trust bundle of one trust domain: its SPIFFE bundle document with the name beside it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Bundle {
    authorities: Authorities,
    /// As it came: what is not understood here is passed on too.
    document: Value,
}

impl Bundle {
    /// The bundle with these authorities.
    pub fn new(authorities: Authorities) -> Result<Self, BundleError> {
        let document = authorities.to_document()?;
        let document =
            serde_json::from_slice(&document).map_err(|error| BundleError::Json(error.to_string()))?;
        Ok(Self { authorities, document })
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
}

impl TryFrom<Form> for Bundle {
    type Error = BundleError;
    fn try_from(form: Form) -> Result<Self, BundleError> {
        let authorities = Authorities::parse(form.trust_domain, form.document.to_string().as_bytes())?;
        Ok(Self { authorities, document: form.document })
    }
}

impl From<Bundle> for Form {
    fn from(bundle: Bundle) -> Self {
        Self { trust_domain: bundle.authorities.trust_domain, document: bundle.document }
    }
}
