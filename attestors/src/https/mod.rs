//! The one client of HTTPS, for what an operator configured and nothing else: one host, which proves its name
//! before it is asked, one question for a connection, and no redirects.
//!
//! `host` asks for whole answers of at most 1 MiB; Kubernetes' lists and watches ([`crate::kube`]) are read
//! while they come. How long anything may take is said by whoever asks.

mod address;
mod host;

use std::{io, sync::Arc};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::{net::TcpStream, task::AbortHandle};
use tokio_rustls::TlsConnector;

pub use self::address::Address;
#[cfg(feature = "server")]
pub(crate) use self::host::Answer;
pub use self::host::HttpsError;
#[cfg(feature = "agent")]
pub use self::host::document;
pub(crate) use self::host::{Host, authorities};

/// A certificate's chain and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The name that a host has to prove, and to whom.
pub(crate) type Proof = (ServerName<'static>, Arc<ClientConfig>);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Nobody is there.
    Unreachable(io::Error),
    /// It did not prove its name.
    Stranger(io::Error),
    /// It stopped in the middle, or does not speak HTTP.
    Broken(hyper::Error),
}

/// Asks a host over a connection of its own, which lasts as long as what is given back.
pub(crate) async fn ask(
    address: &Address,
    proof: Option<Proof>,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Connection), Silence> {
    let stream = TcpStream::connect((address.host(), address.port())).await.map_err(Silence::Unreachable)?;
    stream.set_nodelay(true).map_err(Silence::Unreachable)?;
    match proof {
        None => send(stream, request).await,
        Some((name, tls)) => {
            let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(Silence::Stranger)?;
            send(stream, request).await
        }
    }
}

/// Trusts those whom one of the authorities vouches for; `identity` says who asks. Of many authorities one that
/// is odd does no harm; of none, nobody is trusted.
pub(crate) fn trusting(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    identity: Option<Identity>,
) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(authorities);
    if usable == 0 {
        return Err("there is no certificate of an authority that can be used".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots);
    let config = match identity {
        None => Ok(config.with_no_client_auth()),
        Some((chain, key)) => config.with_client_auth_cert(chain, key),
    };
    config.map(Arc::new).map_err(|error| error.to_string())
}

async fn send<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Connection), Silence>
where
    TokioIo<S>: Read + Write + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.max_buf_size(LONGEST_HEAD).max_headers(MOST_HEADERS);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(Silence::Broken)?;
    // What it cannot do, the request says too.
    let connection = Connection(tokio::spawn(connection).abort_handle());
    let response = sender.send_request(request).await.map_err(Silence::Broken)?;
    Ok((response, connection))
}

/// The task that moves the bytes; it ends with whoever reads them.
#[derive(Debug)]
pub(crate) struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{BodyExt as _, Limited};
    use hyper::StatusCode;
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        runtime,
        time::timeout,
    };

    use super::*;
    use crate::fuzz::changed;

    /// What is made of these bytes as an answer.
    async fn answered(bytes: Vec<u8>) -> Option<(StatusCode, Bytes)> {
        let (near, mut far) = duplex(64 * 1024);
        tokio::spawn(async move {
            let mut question = [0; 1024];
            let _ = far.read(&mut question).await;
            let _ = far.write_all(&bytes).await;
        });
        let request = Request::get("/pods").header(hyper::header::HOST, "host").body(Full::default()).ok()?;
        let (response, _connection) = send(near, request).await.ok()?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST).collect().await.ok()?;
        Some((status, body.to_bytes()))
    }

    const MOST: usize = 4096;
    const WORDS: &[&str] = &[
        "\r\n",
        "\n",
        "\0",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n\r\n",
        ": ",
        " ",
    ];

    proptest! {
        #[test]
        fn whatever_bytes_a_server_answers_have_an_end(bytes in changed("http", WORDS)) {
            let length = bytes.len();
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let answer = runtime.block_on(async { timeout(Duration::from_secs(20), answered(bytes)).await });
            let answer = answer.expect("it is read or refused when the server has ended");
            prop_assert!(answer.is_none_or(|(_, body)| body.len() <= length.min(MOST)));
        }
    }

    #[tokio::test]
    async fn a_whole_answer_is_read_however_it_is_cut_and_a_redirect_is_an_answer_like_any_other() {
        let of = async |name: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/http").join(name);
            answered(std::fs::read(path).expect("it is there")).await.expect("it is an answer")
        };
        assert_eq!(of("whole").await.1, "{\"items\":null}\r\n");
        for name in ["chunked", "until-the-end"] {
            assert_eq!(of(name).await, (StatusCode::OK, Bytes::from_static(b"{\"items\":null}")), "{name}");
        }
        assert_eq!(of("elsewhere").await.0, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(of("continue").await, (StatusCode::OK, Bytes::from_static(b"{}")));
    }
}
