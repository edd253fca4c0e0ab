//! Greets a server over mutual TLS, by its SPIFFE ID: `mtls-client ADDRESS SERVER_ID`.
//!
//! No key and no certificate is configured anywhere. Both come from the agent behind
//! `SPIFFE_ENDPOINT_SOCKET`. The server's DNS name plays no part: who it is, its certificate says.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::pki_types::ServerName;
use spiffe::X509Source;
use spiffe_rustls::{TerminalSourcePolicy, authorizer, mtls_client};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

#[expect(clippy::print_stdout, reason = "what the reader watches")]
#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("usage: mtls-client ADDRESS SERVER_ID")?;
    let server = arguments.next().context("usage: mtls-client ADDRESS SERVER_ID")?;

    let source = X509Source::new().await.context("no identity from the agent")?;
    let own = source.svid()?.spiffe_id().to_string();
    let config = mtls_client(source)
        .authorize(authorizer::exact([server.as_str()])?)
        .terminal_source_policy(TerminalSourcePolicy::FailClosed)
        .build()?;

    let stream =
        TcpStream::connect(&address).await.with_context(|| format!("nobody listens on {address}"))?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("not-checked.invalid")?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(format!("greetings from {own}").as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    (&mut stream).take(1024).read_to_string(&mut answer).await?;
    println!("{server} said: {answer}");
    Ok(())
}
