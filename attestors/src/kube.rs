//! Kubernetes' HTTP API, a kubelet's or an API server's: who answers is verified, and every answer is
//! bounded by whoever reads it.
//!
//! Each question has a connection of its own, and the files that it depends on (authority, token,
//! certificate) are read for it anew: Kubernetes renews them in place.

mod answer;

use std::{fmt, io, path::Path, path::PathBuf, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::time::timeout;

pub use self::answer::{Answer, Lines};
pub use crate::https::Address;
use crate::{
    file,
    https::{self, Proof, Silence},
};

/// Whom to ask, and as whom.
#[derive(Clone, Debug)]
pub struct Access {
    /// Where it listens.
    pub address: Address,
    /// The name in its certificate, if that is not the address's host.
    pub name: Option<String>,
    /// A file with the certificates, in PEM, of those who may vouch for it. Not needed without TLS.
    pub authority: PathBuf,
    /// As whom it is asked.
    pub identity: Identity,
}

/// As whom questions are asked.
#[derive(Clone, Debug)]
pub enum Identity {
    /// With the token in this file. It is never sent without TLS.
    Token(PathBuf),
    /// With a client certificate.
    Certificate {
        /// A file with the chain, in PEM.
        chain: PathBuf,
        /// A file with its key, in PEM.
        key: PathBuf,
    },
}

/// Why there is no answer. Of what was answered nothing is repeated.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A file that the question depends on.
    #[error("cannot read {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers there.
    #[error("{address} cannot be reached: {source}")]
    Unreachable {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// It is not who it should be.
    #[error(
        "{address} did not prove who it is: {source}; check the authority and the name in its certificate"
    )]
    Stranger {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// It answers something else than what was asked for.
    #[error("{address} refuses to answer with {status}; check what the agent's account may do")]
    Refused {
        /// Where.
        address: Address,
        /// How.
        status: StatusCode,
    },
    /// The answer broke off, is too long, or says something else.
    #[error("{address} answers what is not understood: {why}")]
    Unusable {
        /// Where.
        address: Address,
        /// Why, without a word of it.
        why: String,
    },
    /// It takes too long.
    #[error("{address} does not answer in time")]
    Late {
        /// Where.
        address: Address,
    },
}

impl Access {
    /// Asks, and insists on success.
    pub async fn get(&self, path: &str) -> Result<Answer, Trouble> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Posts JSON, and insists on success.
    pub async fn post(&self, path: &str, json: Vec<u8>) -> Result<Answer, Trouble> {
        self.ask(Method::POST, path, json.into()).await
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Trouble> {
        let late = |_| Trouble::Late { address: self.address.clone() };
        let answer = timeout(PATIENCE, self.converse(method, path, body)).await.map_err(late)??;
        let status = answer.status();
        if !status.is_success() {
            return Err(Trouble::Refused { address: self.address.clone(), status });
        }
        Ok(answer)
    }

    async fn converse(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Trouble> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.named())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        if let Identity::Token(file) = &self.identity
            && self.address.is_secure()
        {
            request = request.header(AUTHORIZATION, bearer(file).await?);
        }
        let request = request.body(Full::new(body)).map_err(|error| self.unusable(&error))?;
        let proof = if self.address.is_secure() { Some(self.proof().await?) } else { None };
        let address = || self.address.clone();
        match https::ask(&self.address, proof, request).await {
            Ok((answer, connection)) => Ok(Answer::new(address(), answer, connection)),
            Err(Silence::Unreachable(source)) => Err(Trouble::Unreachable { address: address(), source }),
            Err(Silence::Stranger(source)) => Err(Trouble::Stranger { address: address(), source }),
            Err(Silence::Broken(error)) => Err(self.unusable(&error)),
        }
    }

    /// What it has to prove, and to whom.
    async fn proof(&self) -> Result<Proof, Trouble> {
        let name = self.name.as_deref().unwrap_or(self.address.host()).to_owned();
        let name = ServerName::try_from(name).map_err(|error| Trouble::Stranger {
            address: self.address.clone(),
            source: io::Error::other(error),
        })?;
        let identity = match &self.identity {
            Identity::Token(_) => None,
            Identity::Certificate { chain, key } => {
                let secret = PrivateKeyDer::from_pem_slice(&read(key).await?);
                Some((certificates(chain).await?, secret.map_err(|error| broken(key, error))?))
            }
        };
        let tls = https::trusting(certificates(&self.authority).await?, identity);
        Ok((name, tls.map_err(|error| broken(&self.authority, error))?))
    }

    fn unusable(&self, error: &dyn fmt::Display) -> Trouble {
        Trouble::Unusable { address: self.address.clone(), why: error.to_string() }
    }
}

async fn bearer(file: &Path) -> Result<HeaderValue, Trouble> {
    let token = read(file).await?;
    let value = [b"Bearer ".as_slice(), token.trim_ascii()].concat();
    let mut value = HeaderValue::from_bytes(&value).map_err(|_| broken(file, "it holds no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    file::certificates(&read(path).await?).map_err(|error| broken(path, error))
}

async fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    file::read(path, LONGEST_FILE).await.map_err(|error| broken(path, error))
}

fn broken(path: &Path, why: impl fmt::Display) -> Trouble {
    Trouble::File { path: path.to_owned(), why: why.to_string() }
}

/// Until the head of an answer is there.
const PATIENCE: Duration = Duration::from_secs(3);
const LONGEST_FILE: u64 = 1 << 20;
