//! Kubernetes' HTTP API, a kubelet's or an API server's: who answers is verified, and every answer is
//! bounded by whoever reads it.
//!
//! Each question has a connection of its own, and the files that it depends on (authority, token,
//! certificate) are read for it anew: Kubernetes renews them in place.

mod answer;

use std::{fmt, io, net::IpAddr, path::Path, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use self::answer::Connection;
pub use self::answer::{Answer, Lines};

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

/// `https://HOST:PORT`; or `http://HOST:PORT` of this machine's own loopback, such as a kubelet's read-only
/// port, since nothing proves who answers elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    secure: bool,
    host: String,
    port: u16,
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
            .header(HOST, self.address.authority())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        if let Identity::Token(file) = &self.identity
            && self.address.secure
        {
            request = request.header(AUTHORIZATION, bearer(file).await?);
        }
        let request = request.body(Full::new(body)).map_err(|error| self.unusable(&error))?;
        let unreachable = |source| Trouble::Unreachable { address: self.address.clone(), source };
        let host = (self.address.host.as_str(), self.address.port);
        let stream = TcpStream::connect(host).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut http = http1::Builder::new();
        http.max_buf_size(LONGEST_HEAD).max_headers(64);
        let (mut sender, connection) = if self.address.secure {
            let stranger = |source| Trouble::Stranger { address: self.address.clone(), source };
            let name = self.name.as_deref().unwrap_or(&self.address.host).to_owned();
            let name = ServerName::try_from(name).map_err(|error| stranger(io::Error::other(error)))?;
            let connector = TlsConnector::from(Arc::new(self.tls().await?));
            let stream = connector.connect(name, stream).await.map_err(stranger)?;
            let shaken = http.handshake(TokioIo::new(stream)).await.map_err(|error| self.unusable(&error))?;
            (shaken.0, Connection::of(&tokio::spawn(shaken.1)))
        } else {
            let shaken = http.handshake(TokioIo::new(stream)).await.map_err(|error| self.unusable(&error))?;
            (shaken.0, Connection::of(&tokio::spawn(shaken.1)))
        };
        let answer = sender.send_request(request).await.map_err(|error| self.unusable(&error))?;
        Ok(Answer::new(self.address.clone(), answer, connection))
    }

    async fn tls(&self) -> Result<ClientConfig, Trouble> {
        let mut roots = RootCertStore::empty();
        let (found, _) = roots.add_parsable_certificates(certificates(&self.authority).await?);
        if found == 0 {
            return Err(broken(&self.authority, "there is no certificate of an authority in it"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| broken(&self.authority, error))?
            .with_root_certificates(roots);
        let Identity::Certificate { chain, key } = &self.identity else {
            return Ok(config.with_no_client_auth());
        };
        let secret = PrivateKeyDer::from_pem_slice(&read(key).await?).map_err(|error| broken(key, error))?;
        let config = config.with_client_auth_cert(certificates(chain).await?, secret);
        config.map_err(|error| broken(chain, error))
    }

    fn unusable(&self, error: &dyn fmt::Display) -> Trouble {
        Trouble::Unusable { address: self.address.clone(), why: error.to_string() }
    }
}

impl Address {
    /// `HOST:PORT`, with brackets where they are needed.
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text} is not https://HOST:PORT");
        let uri: Uri = text.parse().map_err(|_| form())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(form()),
        };
        let host = uri.host().ok_or_else(form)?.trim_matches(['[', ']']).to_owned();
        if !matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/" | "")) {
            return Err(form());
        }
        let is_own = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !secure && !is_own {
            return Err(format!("{text} proves nothing about who answers: use https, or http on 127.0.0.1"));
        }
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

async fn bearer(file: &Path) -> Result<HeaderValue, Trouble> {
    let token = read(file).await?;
    let value = [b"Bearer ".as_slice(), token.trim_ascii()].concat();
    let mut value = HeaderValue::from_bytes(&value).map_err(|_| broken(file, "it holds no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let text = read(file).await?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    certificates.map_err(|error| broken(file, error))
}

async fn read(file: &Path) -> Result<Vec<u8>, Trouble> {
    let mut text = Vec::new();
    let opened = tokio::fs::File::open(file).await.map_err(|error| broken(file, error))?;
    opened.take(LONGEST_FILE).read_to_end(&mut text).await.map_err(|error| broken(file, error))?;
    Ok(text)
}

fn broken(path: &Path, why: impl fmt::Display) -> Trouble {
    Trouble::File { path: path.to_owned(), why: why.to_string() }
}

/// Until the head of an answer is there.
const PATIENCE: Duration = Duration::from_secs(3);
const LONGEST_HEAD: usize = 64 * 1024;
const LONGEST_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_tls_is_on_this_machine() {
        for (text, shown) in [
            ("https://10.0.0.1:10250", "https://10.0.0.1:10250"),
            ("https://kubernetes.default.svc", "https://kubernetes.default.svc:443"),
            ("https://[::1]:10250/", "https://[::1]:10250"),
            ("http://127.0.0.1:10255", "http://127.0.0.1:10255"),
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), shown);
        }
        for text in
            ["", "node1", "node1:10250", "ftp://node1", "https://", "https://node1/pods", "https://node1?x"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        let error = "http://10.0.0.1:10255".parse::<Address>().expect_err("not on this machine");
        assert!(error.contains("use https"), "{error}");
    }
}
