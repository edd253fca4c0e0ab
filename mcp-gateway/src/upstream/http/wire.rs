//! HTTP/1.1 to one address: a connection for each request, nothing followed, everything bounded.

use std::{io, path::Path, sync::Arc};

use ::http::{HeaderMap, HeaderValue, Uri, header, request, response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use registry::scope::ResourceName;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::super::Failure;
use crate::config::BadConfig;

/// Where a server is, and what it is told each time.
pub(super) struct Place {
    host: String,
    port: u16,
    path: String,
    authority: HeaderValue,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(super) headers: HeaderMap,
    pub(super) most: usize,
}

/// An answer whose body is not read yet. Dropped, its connection is closed.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    body: Incoming,
    most: usize,
    connection: JoinHandle<()>,
}

impl Place {
    pub(super) fn parse(
        name: &ResourceName,
        url: &str,
        ca_file: Option<&Path>,
        most: usize,
    ) -> Result<Self, BadConfig> {
        let bad = |why: &str| BadConfig::Url { name: name.clone(), url: url.to_owned(), why: why.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad("it is no URL"))?;
        let host = uri.host().ok_or_else(|| bad("it names no host"))?.trim_matches(['[', ']']).to_owned();
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') {
            return Err(bad("it has a user in it; put secrets into `secret_headers`"));
        }
        let (tls, port) = match (uri.scheme_str(), ca_file) {
            (Some("http"), None) => (None, 80),
            (Some("http"), Some(_)) => return Err(bad("it is plain http and has a `ca_file`")),
            (Some("https"), Some(file)) => {
                let server = ServerName::try_from(host.clone()).map_err(|_| bad("its host has no name"))?;
                (Some((Arc::new(trusting(file)?), server)), 443)
            }
            (Some("https"), None) => {
                return Err(bad("name the authorities that vouch for it with `ca_file`"));
            }
            _ => return Err(bad("it begins with neither http:// nor https://")),
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(port),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authority: HeaderValue::from_str(authority).map_err(|_| bad("its host has no name"))?,
            headers: HeaderMap::new(),
            host,
            tls,
            most,
        })
    }

    /// Sends one request; the answer is there with its head.
    pub(super) async fn send(&self, request: request::Builder, body: Vec<u8>) -> Result<Answer, Failure> {
        let not_sent = |error: &dyn std::fmt::Display| {
            Failure::NotSent(format!("cannot connect to the upstream {}:{}: {error}", self.host, self.port))
        };
        let stream = self.connect().await.map_err(|error| not_sent(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_sent(&error))?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut request = request
            .uri(&self.path)
            .header(header::HOST, self.authority.clone())
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| not_sent(&error))?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let answered = sender.send_request(request).await;
        let (head, body) = match answered {
            Ok(answer) => answer.into_parts(),
            Err(error) => {
                connection.abort();
                return Err(Failure::Lost(format!("the connection to the upstream broke: {error}")));
            }
        };
        Ok(Answer { head, body, most: self.most, connection })
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((config, server)) => {
                Box::new(TlsConnector::from(config.clone()).connect(server.clone(), stream).await?)
            }
        })
    }
}

impl Answer {
    /// The whole body.
    pub(super) async fn whole(mut self) -> Result<Vec<u8>, String> {
        let mut whole = Vec::new();
        while let Some(part) = self.part().await? {
            if whole.len() + part.len() > self.most {
                return Err(too_long(self.most));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }

    /// The next part of the body, of whatever length.
    pub(super) async fn part(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(format!("the connection broke: {error}")),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

pub(super) fn too_long(most: usize) -> String {
    format!("it is longer than {most} bytes")
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn trusting(file: &Path) -> Result<ClientConfig, BadConfig> {
    let failed = |why: String| BadConfig::File { path: file.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))? {
        let authority = authority.map_err(|error| failed(error.to_string()))?;
        roots.add(authority).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("it holds no certificate in PEM".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Place, String> {
        Place::parse(&"crm".parse().unwrap(), url, None, 10).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_is_taken_apart_once() {
        let place = parse("http://[::1]:3001/mcp?x=1").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.path.as_str()), ("::1", 3001, "/mcp?x=1"));
        assert_eq!(place.authority, "[::1]:3001");
        assert_eq!(parse("http://crm.example").unwrap().port, 80);
        for (url, why) in [
            ("https://crm.example/", "`ca_file`"),
            ("http://ann:secret@crm.example/", "`secret_headers`"),
            ("ftp://crm.example/", "neither"),
            ("/mcp", "no host"),
        ] {
            assert!(parse(url).err().unwrap().contains(why), "{url}");
        }
    }
}
