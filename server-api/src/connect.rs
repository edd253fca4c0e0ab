//! A client's end: connections to a server over mutual TLS, and to its private socket.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Where a server is: a host name or IP address, and a port.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerAddress {
    host: String,
    port: u16,
}

/// A text that is no server address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is not a server address; write a host name or IP address and a port, for example 10.0.0.7:8081"
)]
pub struct AddressError(String);

/// A server that cannot be reached, or that is not the one it should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {to}: {reason}")]
pub struct ConnectError {
    /// The address or socket.
    pub to: String,
    /// The innermost reason, as whoever saw it first said it.
    pub reason: String,
}

/// Connects to a server. `tls` decides whom it must be and which SVID is shown; the channel makes new
/// connections by itself when one breaks, each with what `tls` shows at that time.
pub async fn connect(address: &ServerAddress, tls: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let target = address.clone();
    let connector = service_fn(move |_: Uri| {
        let (target, tls) = (target.clone(), tls.clone());
        async move {
            tokio::time::timeout(HANDSHAKE_WITHIN, handshake(&target, tls))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map(TokioIo::new)
        }
    });
    endpoint().connect_with_connector(connector).await.map_err(|error| ConnectError::new(address, &error))
}

/// Connects to the private socket at `path`.
pub async fn connect_private(path: &Path) -> Result<Channel, ConnectError> {
    let socket: PathBuf = path.to_owned();
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let shown = path.display();
    endpoint().connect_with_connector(connector).await.map_err(|error| ConnectError::new(&shown, &error))
}

async fn handshake(
    to: &ServerAddress,
    tls: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    // The name is for the server's eyes only: who it is, its SVID says.
    let name = ServerName::try_from(to.host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(tls).connect(name, stream).await
}

/// What HTTP/2 calls the other end does not matter, since the connector knows where it is.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://writ-server")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(MAX_HEADERS)
}

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A peer that vanished without a word is noticed within twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const MAX_HEADERS: u32 = 16 * 1024;

impl ConnectError {
    fn new(to: &dyn fmt::Display, error: &tonic::transport::Error) -> Self {
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self { to: to.to_string(), reason: innermost.to_string() }
    }
}

impl ServerAddress {
    /// The host name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.chars().take(300).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if !host.contains(':') => host,
            _ => return Err(wrong()),
        };
        ServerName::try_from(host).map_err(|_| wrong())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl TryFrom<String> for ServerAddress {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<ServerAddress> for String {
    fn from(address: ServerAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_address_is_a_host_and_a_port() {
        for text in ["10.0.0.7:8081", "server.acme.example:1", "localhost:65535", "[2001:db8::1]:8081"] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
        for text in ["", "10.0.0.7", "10.0.0.7:0", ":8081", "a b:1", "2001:db8::1:8081", "[x]:1", "h:70000"] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text:?}");
        }
    }
}
