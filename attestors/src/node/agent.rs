//! The agent's halves: what a node shows to prove who it is.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{k8s_psat, oidc, x509pop};

/// How this node attests, where it is not by a join token: a table with the settings of one attestor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Config {
    /// With a certificate and its key.
    X509pop(x509pop::agent::Config),
    /// With the projected service account token of its pod.
    K8sPsat(k8s_psat::agent::Config),
    /// With an ID token, as runners of pipelines have one.
    Oidc(oidc::agent::Config),
}

/// What is shown.
pub struct Shown {
    /// The first word.
    pub payload: Vec<u8>,
    /// Answers the server's challenge, where there is one.
    pub answer: Answer,
}

/// Answers a challenge.
pub type Answer = Box<dyn FnOnce(&[u8]) -> Result<Vec<u8>, CannotProve> + Send>;

/// Why this node has nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum CannotProve {
    /// A file.
    #[error("cannot attest: {path}: {source}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// Something else, and what to do about it.
    #[error("cannot attest: {0}")]
    Other(String),
}

impl Config {
    /// The attestor's name in SPIRE's protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Self::X509pop(_) => x509pop::NAME,
            Self::K8sPsat(_) => k8s_psat::NAME,
            Self::Oidc(_) => oidc::NAME,
        }
    }

    /// What this node shows now: files are read anew each time, so they may be replaced.
    pub async fn show(&self) -> Result<Shown, CannotProve> {
        match self {
            Self::X509pop(config) => config.show().await,
            Self::K8sPsat(config) => config.show().await,
            Self::Oidc(config) => config.show().await,
        }
    }

    /// Whether what is said goes together.
    pub fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::X509pop(_) | Self::K8sPsat(_) => Ok(()),
            Self::Oidc(config) => config.check(),
        }
    }
}

/// For those who are not challenged.
pub(super) fn no_challenge() -> Answer {
    Box::new(|_| Err(CannotProve::Other("the server asks for more than this attestor has".to_owned())))
}

/// A file's content, if it is not longer than it can be.
pub(super) async fn read(path: &std::path::Path, most: u64) -> Result<Vec<u8>, CannotProve> {
    let failed = |source| CannotProve::File { path: path.to_owned(), source };
    crate::file::read(path, most).await.map_err(failed)
}
