//! A client of HTTPS for what an operator configured, and nothing else: one host, one request for a
//! connection, no redirects, and an end to bytes and time.

use std::{io, path::Path, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::file;

/// A host that is spoken to.
#[derive(Clone)]
pub(super) struct Host {
    name: ServerName<'static>,
    authority: String,
    host: String,
    port: u16,
    tls: Arc<ClientConfig>,
}

/// What it answered, over a connection on which it proved its name.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
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
pub(super) fn authorities(file: Option<&Path>) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = SYSTEM.iter().map(Path::new).find(|path| path.exists());
    let path = file.or(found);
    let path =
        path.ok_or_else(|| io::Error::other("this system has no file of authorities; name one as ca_file"))?;
    let said = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
    file::read_now(path, MAX_AUTHORITIES).and_then(|pem| file::certificates(&pem)).map_err(said)
}

impl Host {
    /// The host of this address, which has to prove its name to one of `authorities`.
    pub(super) fn of(
        uri: &Uri,
        authorities: &[CertificateDer<'static>],
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, HttpsError> {
        let wrong = || HttpsError::Address(uri.to_string());
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        let mut roots = RootCertStore::empty();
        // Of a system's many, one that is odd does no harm; of none, nobody is trusted.
        let (usable, _) = roots.add_parsable_certificates(authorities.iter().cloned());
        let tls = |error: &dyn std::fmt::Display| HttpsError::Tls(format!("cannot set up TLS: {error}"));
        if usable == 0 {
            return Err(tls(&"there is no authority that can be used"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| tls(&error))?.with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config.with_client_auth_cert(chain, key).map_err(|error| tls(&error))?,
        };
        Ok(Self {
            name,
            authority: authority.to_string(),
            host,
            port: authority.port_u16().unwrap_or(443),
            tls: Arc::new(config),
        })
    }

    /// Whether an address is at this host.
    #[cfg(feature = "server")]
    pub(super) fn has(&self, uri: &Uri) -> bool {
        let authority = uri.authority();
        let same = authority.is_some_and(|authority| {
            authority.port_u16().unwrap_or(443) == self.port
                && authority
                    .host()
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .eq_ignore_ascii_case(&self.host)
                && !authority.as_str().contains('@')
        });
        same && uri.scheme_str() == Some("https")
    }

    /// Asks for what is at `path`; `bearer` says who asks.
    pub(super) async fn get(&self, path: &str, bearer: Option<&str>) -> Result<Answer, HttpsError> {
        self.ask(Method::GET, path, bearer, Bytes::new()).await
    }

    /// Says `body`, which is JSON, to what is at `path`.
    #[cfg(feature = "server")]
    pub(super) async fn post(
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
        asked.map_err(|_| HttpsError::Late(self.authority.clone()))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, HttpsError> {
        let unreachable = |error| HttpsError::Unreachable(self.authority.clone(), error);
        let broken =
            |error: &dyn std::fmt::Display| HttpsError::Broken(self.authority.clone(), error.to_string());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
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

        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(unreachable)?;
        let stream = TlsConnector::from(self.tls.clone()).connect(self.name.clone(), stream).await;
        let io = TokioIo::new(stream.map_err(unreachable)?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|error| broken(&error))?;
        let connection = Ended(tokio::spawn(async move {
            let _ = connection.await; // what it cannot do, the request says too
        }));
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| broken(&error))?.to_bytes();
        drop(connection);
        Ok(Answer { status, body })
    }
}

/// A task that ends with what waits for it.
struct Ended(tokio::task::JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}
