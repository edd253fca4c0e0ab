//! [`Host`]: whole answers of one host, with an end to bytes and time.

use std::{io, path::Path, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};

use super::{Address, Identity, Silence, ask, trusting};
use crate::file;

/// A host that is spoken to.
#[derive(Clone)]
pub(crate) struct Host {
    address: Address,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

/// What it answered, over a connection on which it proved its name.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// An address that is not asked.
    #[error("{0:?} is not an address such as https://host/path")]
    Address(String),
    /// A file with authorities or a certificate.
    #[error("{0}")]
    Tls(String),
    /// Nobody is there, or the wrong one.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, io::Error),
    /// It stopped in the middle, or said too much.
    #[error("{0} does not answer as it should: {1}")]
    Broken(String, String),
    /// It takes too long.
    #[error("{0} does not answer within {within:?}", within = WITHIN)]
    Late(String),
    /// It has no such document.
    #[error("{0} answers {1}")]
    Refused(String, u16),
}

/// The document at `url`, over HTTPS. Whoever serves it proves its name to the authorities (PEM) in
/// `ca_file`, or to one of the system's. At most 1 MiB, within 10 s, and no other address is followed.
#[cfg(feature = "agent")]
pub async fn document(url: &str, ca_file: Option<&Path>) -> Result<Vec<u8>, HttpsError> {
    let uri: Uri = url.parse().map_err(|_| HttpsError::Address(url.to_owned()))?;
    let authorities = authorities(ca_file).map_err(|error| HttpsError::Tls(error.to_string()))?;
    let host = Host::of(&uri, &authorities, None)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let answer = host.get(path, None).await?;
    match answer.status {
        StatusCode::OK => Ok(answer.body.into()),
        other => Err(HttpsError::Refused(url.to_owned(), other.as_u16())),
    }
}

/// From the connection's beginning to the answer's last byte.
const WITHIN: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1024 * 1024;
const MAX_AUTHORITIES: u64 = 4 * 1024 * 1024;

/// Where Linux distributions keep the authorities that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities in a file, or else those that the system trusts.
pub(crate) fn authorities(file: Option<&Path>) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = SYSTEM.iter().map(Path::new).find(|path| path.exists());
    let path = file.or(found);
    let path =
        path.ok_or_else(|| io::Error::other("this system has no file of authorities; name one as ca_file"))?;
    let said = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
    file::read_now(path, MAX_AUTHORITIES).and_then(|pem| file::certificates(&pem)).map_err(said)
}

impl Host {
    /// The host of this address, which has to prove its name to one of `authorities`.
    pub(crate) fn of(
        uri: &Uri,
        authorities: &[CertificateDer<'static>],
        identity: Option<Identity>,
    ) -> Result<Self, HttpsError> {
        let wrong = || HttpsError::Address(uri.to_string());
        let address = Address::of(uri).filter(Address::is_secure).ok_or_else(wrong)?;
        let name = ServerName::try_from(address.host().to_owned()).map_err(|_| wrong())?;
        let tls = trusting(authorities.iter().cloned(), identity);
        let tls = tls.map_err(|error| HttpsError::Tls(format!("cannot set up TLS: {error}")))?;
        Ok(Self { address, name, tls })
    }

    /// Whether an address is at this host.
    #[cfg(feature = "server")]
    pub(crate) fn has(&self, uri: &Uri) -> bool {
        Address::of(uri).is_some_and(|address| address.is(&self.address))
    }

    /// Asks for what is at `path`; `bearer` says who asks.
    pub(crate) async fn get(&self, path: &str, bearer: Option<&str>) -> Result<Answer, HttpsError> {
        self.ask(Method::GET, path, bearer, Bytes::new()).await
    }

    /// Says `body`, which is JSON, to what is at `path`.
    #[cfg(feature = "server")]
    pub(crate) async fn post(
        &self,
        path: &str,
        bearer: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Answer, HttpsError> {
        self.ask(Method::POST, path, bearer, body.into()).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, HttpsError> {
        let asked = tokio::time::timeout(WITHIN, self.exchange(method, path, bearer, body)).await;
        asked.map_err(|_| HttpsError::Late(self.address.named()))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, HttpsError> {
        let unreachable = |error| HttpsError::Unreachable(self.address.named(), error);
        let broken =
            |error: &dyn std::fmt::Display| HttpsError::Broken(self.address.named(), error.to_string());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.named())
            .header(ACCEPT, "application/json, application/jwk-set+json, */*")
            .header(USER_AGENT, concat!("writ/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(bearer) = bearer {
            let mut secret =
                HeaderValue::try_from(format!("Bearer {bearer}")).map_err(|error| broken(&error))?;
            secret.set_sensitive(true);
            request = request.header(AUTHORIZATION, secret);
        }
        let request = request.body(Full::new(body)).map_err(|error| broken(&error))?;
        let proof = (self.name.clone(), self.tls.clone());
        let (response, _connection) =
            ask(&self.address, Some(proof), request).await.map_err(|silence| match silence {
                Silence::Unreachable(error) | Silence::Stranger(error) => unreachable(error),
                Silence::Broken(error) => broken(&error),
            })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok(Answer { status, body: body.map_err(|error| broken(&error))?.to_bytes() })
    }
}
