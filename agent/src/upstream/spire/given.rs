//! The trust bundle of a SPIRE server: given by the operator at first, kept as the server changes it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use registry::objects::{Bundle as BundleObject, Sha256};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use spiffe::{Bundle, BundleError, TrustDomain};

use crate::{
    config::SpireServer,
    state::{State, StateError},
};

/// The file that the operator gave.
#[derive(Debug)]
pub(crate) struct Given {
    trust_domain: TrustDomain,
    /// Of the file's content; none where it cannot be read any more.
    digest: Option<Sha256>,
}

/// A trust bundle that nobody can begin with.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// The file.
    #[error("cannot read {}: {source}; write the server's bundle there, as `spire-server bundle show` prints it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is in it.
    #[error("{} is no trust bundle: {reason}; `spire-server bundle show` prints one", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The server's newest bundle on disk.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// Of the file that trust began with. When the operator gives another one, it begins anew.
    began_with: Sha256,
    bundle: BundleObject,
}

impl Given {
    /// The bundle to begin with: the newest that the server was known by, unless the operator has given
    /// another file since.
    pub(crate) fn open(server: &SpireServer, state: &State) -> Result<(Self, Bundle), StateError> {
        let trust_domain = server.trust_domain.clone();
        let kept = state.spire_bundle()?.filter(|kept| *kept.bundle.trust_domain() == trust_domain);
        let given = read(&server.trust_bundle, &trust_domain);
        let digest = given.as_ref().ok().map(|(digest, _)| *digest);
        let began = Self { trust_domain, digest };
        match (kept, given) {
            (Some(kept), Ok((digest, _))) if kept.began_with == digest => {
                Ok((began, kept.bundle.authorities().clone()))
            }
            (Some(kept), Err(error)) => {
                tracing::warn!(%error, "went on with the trust bundle that was kept");
                let began = Self { digest: Some(kept.began_with), ..began };
                Ok((began, kept.bundle.authorities().clone()))
            }
            (_, given) => Ok((began, given?.1)),
        }
    }

    /// Whose server it is.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Keeps a newer bundle that the server showed.
    pub(crate) fn keep(&self, state: &State, bundle: &BundleObject) {
        let Some(began_with) = self.digest else { return };
        if let Err(error) = state.save_spire_bundle(&Kept { began_with, bundle: bundle.clone() }) {
            // It is trusted all the same; a later start begins with an older one.
            tracing::error!(%error, "cannot keep the trust bundle");
        }
    }
}

/// The bundle in a file: certificates in PEM, or a SPIFFE bundle document.
fn read(path: &Path, trust_domain: &TrustDomain) -> Result<(Sha256, Bundle), GivenError> {
    let unreadable = |source| GivenError::Read { path: path.to_owned(), source };
    let wrong = |reason: String| GivenError::Content { path: path.to_owned(), reason };
    let length = fs::metadata(path).map_err(unreadable)?.len();
    if length > spiffe::bundle::MAX_DOCUMENT_BYTES as u64 {
        return Err(wrong(BundleError::Length(usize::try_from(length).unwrap_or(usize::MAX)).to_string()));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let bundle = parse(&bytes, trust_domain).map_err(wrong)?;
    if bundle.x509_authorities.is_empty() {
        return Err(wrong("it has no X.509 authority".to_owned()));
    }
    Ok((Sha256::of(&bytes), bundle))
}

fn parse(bytes: &[u8], trust_domain: &TrustDomain) -> Result<Bundle, String> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Bundle::parse(trust_domain.clone(), bytes).map_err(|error| error.to_string());
    }
    let mut bundle = Bundle::empty(trust_domain.clone());
    let certificates = CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>();
    bundle.x509_authorities = certificates.map_err(|error| error.to_string())?;
    Ok(bundle)
}
