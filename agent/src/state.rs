//! What the agent keeps on disk: its key, its certificate, and whom it trusts (its view is in
//! `view_file.rs`). Workload keys are never here.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use daemon::{DirLock, DiskError, disk, lock_dir, private_dir, read_private, write_private};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use spiffe::{Pin, PrivateKey, SignedBundle, SpiffeId, TrustDomain, x509::Certificate, x509::svid};
use zeroize::Zeroizing;

use crate::{
    rotation::Validity,
    taint::{Certified, Signers},
    upstream::{GivenError, KeptSpireBundle, Seen},
};

/// The agent's own directory.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
    _lock: DirLock,
}

/// The agent's own certificate, as the server gave it for the agent's key.
#[derive(Clone, Debug)]
pub(crate) struct OwnCertificate {
    /// Leaf first, without the root.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Which node this is.
    pub(crate) id: SpiffeId,
    /// How long it is valid.
    pub(crate) validity: Validity,
}

/// State that cannot be used. What can be had again from the server is no error.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The agent's key.
    #[error("{} holds no key of this agent; move it away and join again with a new token", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The agent that lives here joined another trust domain.
    #[error("{} belongs to an agent of trust domain {kept}, not {wanted}; choose another directory, or name {kept}", dir.display())]
    OtherTrustDomain {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        kept: TrustDomain,
        /// What the operator says.
        wanted: TrustDomain,
    },
    /// No key can be made.
    #[error(transparent)]
    Generation(#[from] spiffe::KeyError),
    /// The trust bundle of a SPIRE server.
    #[error(transparent)]
    Given(#[from] GivenError),
}

impl State {
    /// Takes the directory for this process alone.
    pub(crate) fn open(dir: &Path) -> Result<Self, StateError> {
        private_dir(dir)?;
        Ok(Self { _lock: lock_dir(dir)?, dir: dir.to_owned() })
    }

    /// The agent's key, made on the first start. It is the same for as long as the directory is: the
    /// server knows the node by it when a certificate has ended.
    pub(crate) fn key(&self) -> Result<PrivateKey, StateError> {
        let path = self.dir.join(KEY);
        if let Some(key) = read_key(&self.dir)? {
            return Ok(key);
        }
        let key = PrivateKey::generate()?;
        write_private(&path, pem("PRIVATE KEY", [key.pkcs8()]).as_bytes())?;
        Ok(key)
    }

    /// Another key in the place of one that somebody else has too.
    pub(crate) fn change_key(&self) -> Result<PrivateKey, StateError> {
        let key = PrivateKey::generate()?;
        write_private(&self.dir.join(KEY), pem("PRIVATE KEY", [key.pkcs8()]).as_bytes())?;
        Ok(key)
    }

    /// Why this directory is not for an agent of `wanted`.
    pub(crate) fn belongs_to(&self, kept: &TrustDomain, wanted: &TrustDomain) -> StateError {
        StateError::OtherTrustDomain { dir: self.dir.clone(), kept: kept.clone(), wanted: wanted.clone() }
    }

    /// The agent's certificate, if there is one for this key.
    pub(crate) fn certificate(&self, key: &PrivateKey) -> Result<Option<OwnCertificate>, StateError> {
        read_certificate(&self.dir, key)
    }

    /// Keeps a new certificate.
    pub(crate) fn save_certificate(&self, certificate: &OwnCertificate) -> Result<(), DiskError> {
        let chain = certificate.chain.iter().map(AsRef::as_ref);
        write_private(&self.dir.join(CERTIFICATE), pem("CERTIFICATE", chain).as_bytes())
    }

    /// Forgets the certificate: the server does not take it any more.
    pub(crate) fn forget_certificate(&self) -> Result<(), DiskError> {
        disk::remove(&self.dir.join(CERTIFICATE))
    }

    /// What the server has shown as its newest revision.
    pub(crate) fn seen(&self) -> Result<Seen, DiskError> {
        Seen::open(&self.dir)
    }

    /// The signed bundle and the pin that it was last verified with.
    pub(crate) fn trust(&self) -> Result<Option<(Pin, SignedBundle)>, StateError> {
        let path = self.dir.join(TRUST);
        let Some(bytes) = read_private(&path, MOST_BYTES)? else { return Ok(None) };
        let kept: Result<KeptTrust, _> = serde_json::from_slice(&bytes);
        Ok(kept
            .map_err(|error| tracing::warn!(path = %path.display(), %error, "ignored what cannot be read"))
            .ok()
            .map(|kept| {
                let signed = SignedBundle {
                    trust_domain: kept.trust_domain,
                    document: kept.document.0,
                    pin_public_key: kept.pin_public_key.0,
                    signature: kept.signature.0,
                };
                (kept.pin, signed)
            }))
    }

    /// Keeps a signed bundle that was verified with this pin.
    pub(crate) fn save_trust(&self, pin: Pin, signed: &SignedBundle) -> Result<(), DiskError> {
        let kept = KeptTrust {
            pin,
            trust_domain: signed.trust_domain.clone(),
            document: Base64(signed.document.clone()),
            pin_public_key: Base64(signed.pin_public_key.clone()),
            signature: Base64(signed.signature.clone()),
        };
        let json =
            serde_json::to_vec_pretty(&kept).map_err(|error| unwritable(&self.dir.join(TRUST), error))?;
        write_private(&self.dir.join(TRUST), &json)
    }

    /// The bundle that a SPIRE server was last known by.
    pub(crate) fn spire_bundle(&self) -> Result<Option<KeptSpireBundle>, StateError> {
        let path = self.dir.join(SPIRE_TRUST);
        let Some(bytes) = read_private(&path, MOST_BYTES)? else { return Ok(None) };
        let kept = serde_json::from_slice(&bytes);
        Ok(kept
            .map_err(|error| tracing::warn!(path = %path.display(), %error, "ignored what cannot be read"))
            .ok())
    }

    /// Keeps the bundle that a SPIRE server showed.
    pub(crate) fn save_spire_bundle(&self, kept: &KeptSpireBundle) -> Result<(), DiskError> {
        let path = self.dir.join(SPIRE_TRUST);
        let json = serde_json::to_vec_pretty(kept).map_err(|error| unwritable(&path, error))?;
        write_private(&path, &json)
    }
}

/// Whether an agent that starts in this directory has a certificate that lasts a while, so that it
/// needs no token.
pub fn has_joined(state_dir: &Path) -> bool {
    let lasts = |certificate: OwnCertificate| {
        let now = spiffe::Timestamp::from_unix_millis(daemon::now_unix_millis());
        now + WORTH_USING < certificate.validity.until
    };
    let key = read_key(state_dir).ok().flatten();
    key.and_then(|key| read_certificate(state_dir, &key).ok().flatten()).is_some_and(lasts)
}

fn read_key(dir: &Path) -> Result<Option<PrivateKey>, StateError> {
    let path = dir.join(KEY);
    let Some(text) = read_private(&path, MOST_KEY_BYTES)?.map(Zeroizing::new) else { return Ok(None) };
    let unusable = || StateError::Key { path: path.clone() };
    let der = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| unusable())?;
    let key = PrivateKey::from_pkcs8(der.secret_pkcs8_der().to_vec()).map_err(|_| unusable())?;
    key.public_key().map_err(|_| unusable())?;
    Ok(Some(key))
}

fn read_certificate(dir: &Path, key: &PrivateKey) -> Result<Option<OwnCertificate>, StateError> {
    let path = dir.join(CERTIFICATE);
    let Some(text) = read_private(&path, MOST_KEY_BYTES)? else { return Ok(None) };
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    let certificate = OwnCertificate::new(chain, key);
    Ok(certificate
        .map_err(|error| tracing::warn!(path = %path.display(), error, "ignored a certificate"))
        .ok())
}

impl OwnCertificate {
    /// The certificate in this chain, which must be this key's. Nobody has vouched for it yet.
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<Self, String> {
        let leaf = chain.first().ok_or("there is none")?;
        let leaf = Certificate::parse(leaf).map_err(|error| error.to_string())?;
        let id = svid::leaf_id(&leaf).map_err(|error| error.to_string())?;
        if leaf.public_key().raw != key.public_key().map_err(|error| error.to_string())? {
            return Err("it is for another key".to_owned());
        }
        let validity = Validity { from: leaf.not_before(), until: leaf.not_after() };
        Ok(Self { chain, id, validity })
    }

    /// How things stand with it.
    pub(crate) fn certified(&self) -> Certified {
        Certified { validity: self.validity, signers: Signers::of(&self.chain) }
    }
}

/// A signed bundle on disk.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptTrust {
    pin: Pin,
    trust_domain: TrustDomain,
    document: Base64,
    pin_public_key: Base64,
    signature: Base64,
}

/// Bytes that are base64 in JSON.
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        STANDARD.decode(text.as_str()).map(Self).map_err(de::Error::custom)
    }
}

/// RFC 7468: a line before, lines of 64, a line behind.
fn pem<'a>(label: &str, ders: impl IntoIterator<Item = &'a [u8]>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    for der in ders {
        let encoded = Zeroizing::new(STANDARD.encode(der));
        text.push_str(&format!("-----BEGIN {label}-----\n"));
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str(&format!("-----END {label}-----\n"));
    }
    text
}

fn unwritable(path: &Path, error: serde_json::Error) -> DiskError {
    DiskError::Io { action: "write", path: path.to_owned(), source: io::Error::other(error) }
}

const KEY: &str = "agent.key";
const CERTIFICATE: &str = "agent.pem";
const TRUST: &str = "bundle.json";
const SPIRE_TRUST: &str = "spire-bundle.json";
const MOST_KEY_BYTES: u64 = 256 * 1024;
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// A certificate that ends sooner is not worth starting with.
const WORTH_USING: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_then_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let first = State::open(&path).unwrap().key().unwrap();
        let again = State::open(&path).unwrap().key().unwrap();
        assert_eq!(first.public_key(), again.public_key());
        fs::write(path.join(KEY), "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n").unwrap();
        let error = State::open(&path).unwrap().key().unwrap_err().to_string();
        assert!(error.contains("agent.key") && error.contains("new token"), "{error}");
    }

    #[test]
    fn a_directory_serves_one_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let _first = State::open(&path).unwrap();
        assert!(State::open(&path).is_err());
    }

    #[test]
    fn trust_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("agent")).unwrap();
        let key = spiffe::PinKey::new(&PrivateKey::generate().unwrap()).unwrap();
        let signed = key.sign(&"acme.example".parse().unwrap(), br#"{"keys":[]}"#.to_vec()).unwrap();
        state.save_trust(key.pin(), &signed).unwrap();
        assert_eq!(state.trust().unwrap(), Some((key.pin(), signed)));
    }

    #[test]
    fn an_empty_directory_has_not_joined() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_joined(dir.path()));
        State::open(&dir.path().join("agent")).unwrap().key().unwrap();
        assert!(!has_joined(&dir.path().join("agent")));
    }
}
