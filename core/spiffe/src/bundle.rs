//! Trust bundles: a trust domain's authorities, as SPIFFE bundle documents (SPIFFE Trust Domain and
//! Bundle, section 4) and as the map against which SVIDs are verified.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    TrustDomain, json,
    jwk::{Jwk, JwkError, text},
    x509::{
        Anchor, Certificate,
        path::{self, PathError},
        profile::Profile,
    },
};

/// The longest bundle document accepted, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;

/// The authorities of one trust domain. No authorities at all means that nothing of it is trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// Whose authorities these are.
    pub trust_domain: TrustDomain,
    /// Certificates that vouch for X509-SVIDs.
    pub x509_authorities: Vec<CertificateDer<'static>>,
    /// Keys that vouch for JWT-SVIDs.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// Grows with each change (`spiffe_sequence`).
    pub sequence: Option<u64>,
    /// How often to look for changes, in seconds (`spiffe_refresh_hint`).
    pub refresh_hint: Option<u64>,
}

/// A key that vouches for JWT-SVIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtAuthority {
    /// Its name, which JWT headers repeat.
    pub kid: String,
    /// The key.
    pub key: Jwk,
}

/// Why a document is not a SPIFFE bundle, or a bundle cannot be written as one.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum BundleError {
    /// Longer than [`MAX_DOCUMENT_BYTES`].
    #[error("a bundle document of {0} bytes is longer than {MAX_DOCUMENT_BYTES}")]
    Length(usize),
    /// Not JSON, or with a member named twice.
    #[error("the bundle is not unambiguous JSON: {0}")]
    Json(String),
    /// No `keys`, or something else than a list there.
    #[error("the bundle has no list of keys")]
    NoKeys,
    /// `spiffe_sequence` or `spiffe_refresh_hint` is not a whole number that fits 64 bits.
    #[error("{0} is not a whole number")]
    Number(&'static str),
    /// A key of a known use contradicts the standard.
    #[error("key {index} of the bundle: {reason}")]
    Key {
        /// Its place in `keys`, from 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// Two JWT authorities have the same name.
    #[error("two keys of the bundle have the kid {0:?}")]
    RepeatedKid(String),
    /// A certificate has a key for which no JWK is defined here.
    #[error("X.509 authority {0} has a public key that a bundle document cannot express")]
    Inexpressible(usize),
}

impl Bundle {
    /// A bundle with nothing in it.
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            sequence: None,
            refresh_hint: None,
        }
    }

    /// Reads a SPIFFE bundle document.
    ///
    /// A key of unknown type or use is passed over alone; a malformed key of a known use spoils the
    /// document, because whoever keeps the previous bundle then is better off than with half of this one.
    pub fn parse(trust_domain: TrustDomain, document: &[u8]) -> Result<Self, BundleError> {
        Self::read(trust_domain, document, None)
    }

    /// Reads a JWT bundle as the Workload API hands it out (section 6.2.2 there): a plain JWK set, whose
    /// keys need not say that they are for JWT-SVIDs.
    pub fn parse_jwt(trust_domain: TrustDomain, document: &[u8]) -> Result<Self, BundleError> {
        let bundle = Self::read(trust_domain, document, Some(JWT_USE))?;
        Ok(Self { x509_authorities: Vec::new(), ..bundle })
    }

    /// Reads a document; a key that names no use has `use_of_others`.
    fn read(
        trust_domain: TrustDomain,
        document: &[u8],
        use_of_others: Option<&str>,
    ) -> Result<Self, BundleError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(BundleError::Length(document.len()));
        }
        let document = json::parse(document).map_err(|error| BundleError::Json(error.to_string()))?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(BundleError::NoKeys)?;
        let mut bundle = Self::empty(trust_domain);
        bundle.sequence = whole_number(&document, "spiffe_sequence")?;
        bundle.refresh_hint = whole_number(&document, "spiffe_refresh_hint")?;
        for (index, key) in keys.iter().enumerate() {
            let malformed = |reason: String| BundleError::Key { index, reason };
            let key = key.as_object().ok_or_else(|| malformed("it is not an object".to_owned()))?;
            let usage = if key.contains_key("use") { text(key, "use") } else { use_of_others };
            match usage {
                Some(X509_USE) => bundle.x509_authorities.extend(x509_authority(key).map_err(malformed)?),
                Some(JWT_USE) => bundle.jwt_authorities.extend(jwt_authority(key).map_err(malformed)?),
                _ => {} // section 4.2.2: a missing or unknown use is ignored
            }
        }
        bundle.check_kids()?;
        Ok(bundle)
    }

    /// Writes the SPIFFE bundle document. Equal bundles give equal bytes: members are sorted by name,
    /// keys stand in the bundle's order.
    pub fn to_document(&self) -> Result<Vec<u8>, BundleError> {
        self.check_kids()?;
        let x509 = self.x509_authorities.iter().enumerate().map(|(n, der)| x509_jwk(n, der));
        let jwt = self.jwt_authorities.iter().map(|authority| Ok(jwt_jwk(authority)));
        let document = Document {
            keys: x509.chain(jwt).collect::<Result<_, _>>()?,
            spiffe_refresh_hint: self.refresh_hint,
            spiffe_sequence: self.sequence,
        };
        serde_json::to_vec(&document).map_err(|error| BundleError::Json(error.to_string()))
    }

    fn check_kids(&self) -> Result<(), BundleError> {
        let mut seen = HashSet::new();
        match self.jwt_authorities.iter().find(|authority| !seen.insert(&authority.kid)) {
            Some(twice) => Err(BundleError::RepeatedKid(twice.kid.clone())),
            None => Ok(()),
        }
    }
}

/// The bundles that are trusted now, by trust domain. Cheap to ask; a clone shares the bundles.
#[derive(Clone, Debug, Default)]
pub struct Bundles(HashMap<TrustDomain, Trusted>);

/// A bundle, with its X.509 authorities ready for verification.
#[derive(Clone, Debug)]
struct Trusted {
    bundle: Arc<Bundle>,
    /// Those that can be used; if none can, why not.
    anchors: Result<Arc<[Anchor]>, PathError>,
}

impl Bundles {
    /// Puts `bundle` in the place of any other of its trust domain.
    pub fn insert(&mut self, bundle: impl Into<Arc<Bundle>>) {
        let bundle = bundle.into();
        let anchors = path::anchors(Profile::Svid, &bundle.x509_authorities);
        self.0.insert(bundle.trust_domain.clone(), Trusted { bundle, anchors });
    }

    /// Trusts nothing of `trust_domain` any more.
    pub fn remove(&mut self, trust_domain: &TrustDomain) {
        self.0.remove(trust_domain);
    }

    /// Of these bundles, those of the trust domains that `wanted` says.
    #[must_use]
    pub fn only(&self, mut wanted: impl FnMut(&TrustDomain) -> bool) -> Self {
        let of = self.0.iter().filter(|(trust_domain, _)| wanted(trust_domain));
        Self(of.map(|(trust_domain, trusted)| (trust_domain.clone(), trusted.clone())).collect())
    }

    /// The bundle of the trust domain with this name.
    pub fn get(&self, trust_domain: &str) -> Option<&Arc<Bundle>> {
        self.0.get(trust_domain).map(|trusted| &trusted.bundle)
    }

    /// All bundles, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.0.values().map(|trusted| &trusted.bundle)
    }

    /// The authorities of the trust domain with this name that may vouch for certificates.
    pub(crate) fn anchors(&self, trust_domain: &str) -> Option<Result<&[Anchor], PathError>> {
        self.0.get(trust_domain).map(|trusted| trusted.anchors.as_deref().map_err(Clone::clone))
    }
}

impl<B: Into<Arc<Bundle>>> FromIterator<B> for Bundles {
    fn from_iter<I: IntoIterator<Item = B>>(bundles: I) -> Self {
        let mut map = Self::default();
        bundles.into_iter().for_each(|bundle| map.insert(bundle));
        map
    }
}

/// A bundle document as it is written.
#[derive(Serialize)]
struct Document {
    keys: Vec<BTreeMap<&'static str, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_refresh_hint: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_sequence: Option<u64>,
}

fn whole_number(document: &Value, name: &'static str) -> Result<Option<u64>, BundleError> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(number) => number.as_u64().map(Some).ok_or(BundleError::Number(name)),
    }
}

/// X509-SVID section 6.2: no `x5c` or an empty one is ignored, and of several only the first counts.
fn x509_authority(jwk: &Map<String, Value>) -> Result<Option<CertificateDer<'static>>, String> {
    let key = match Jwk::parse(jwk) {
        Err(JwkError::Unknown) if !known_type(jwk) => return Ok(None),
        key => key.ok(),
    };
    let x5c = match jwk.get("x5c") {
        None | Some(Value::Null) => return Ok(None),
        Some(x5c) => x5c.as_array().ok_or("x5c is not a list")?,
    };
    let Some(first) = x5c.first() else { return Ok(None) };
    let first = first.as_str().ok_or("x5c holds something else than texts")?;
    let der = CertificateDer::from(STANDARD.decode(first).map_err(|_| "x5c is not base64")?);
    let certificate = Certificate::parse(&der).map_err(|error| format!("x5c is not usable: {error}"))?;
    // RFC 7517 section 4.7: the key in the first certificate is the key of the JWK.
    let certified = Jwk::from_spki(certificate.public_key());
    if key.is_some() && key != certified {
        return Err("x5c holds another key than the JWK".to_owned());
    }
    // With a key of a kind that is not used here, or none at all, it can vouch for nobody.
    Ok(certified.map(|_| der))
}

fn jwt_authority(jwk: &Map<String, Value>) -> Result<Option<JwtAuthority>, String> {
    let key = match Jwk::parse(jwk) {
        Ok(key) => key,
        Err(JwkError::Unknown) => return Ok(None),
        Err(JwkError::Malformed(reason)) => return Err(reason.to_owned()),
    };
    match text(jwk, "kid") {
        Some(kid) if !kid.is_empty() => Ok(Some(JwtAuthority { kid: kid.to_owned(), key })),
        _ => Err("a jwt-svid key needs a kid".to_owned()),
    }
}

fn known_type(jwk: &Map<String, Value>) -> bool {
    matches!(text(jwk, "kty"), Some("EC" | "RSA" | "OKP"))
}

fn x509_jwk(index: usize, der: &CertificateDer<'_>) -> Result<BTreeMap<&'static str, Value>, BundleError> {
    let certificate =
        Certificate::parse(der).map_err(|error| BundleError::Key { index, reason: error.to_string() })?;
    let key = Jwk::from_spki(certificate.public_key()).ok_or(BundleError::Inexpressible(index))?;
    let mut jwk = key.members();
    jwk.insert("use", X509_USE.into());
    jwk.insert("x5c", vec![STANDARD.encode(der)].into());
    Ok(jwk)
}

fn jwt_jwk(authority: &JwtAuthority) -> BTreeMap<&'static str, Value> {
    let mut jwk = authority.key.members();
    jwk.insert("kid", authority.kid.clone().into());
    jwk.insert("use", JWT_USE.into());
    jwk
}

const X509_USE: &str = "x509-svid";
const JWT_USE: &str = "jwt-svid";

#[cfg(test)]
mod tests;
