//! Greets one client over mutual TLS, by its SPIFFE ID: `mtls-server ADDRESS CLIENT_ID`.
//!
//! No key and no certificate is configured anywhere. Both come from the agent behind
//! `SPIFFE_ENDPOINT_SOCKET`, and each new connection uses the newest ones.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use spiffe::X509Source;
use spiffe_rustls::{TerminalSourcePolicy, authorizer, mtls_server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what the reader watches")]
#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("usage: mtls-server ADDRESS CLIENT_ID")?;
    let client = arguments.next().context("usage: mtls-server ADDRESS CLIENT_ID")?;

    let source = X509Source::new().await.context("no identity from the agent")?;
    let own = source.svid()?.spiffe_id().to_string();
    let config = mtls_server(source)
        .authorize(authorizer::exact([client.as_str()])?)
        .terminal_source_policy(TerminalSourcePolicy::FailClosed)
        .build()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind(&address).await?;
    println!("{own} listens on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, client) = (acceptor.clone(), client.clone());
        tokio::spawn(async move {
            match greet(&acceptor, stream, &client).await {
                Ok(said) => println!("{client} said: {said}"),
                Err(error) => eprintln!("refused a connection: {error:#}"),
            }
        });
    }
}

async fn greet(acceptor: &TlsAcceptor, stream: TcpStream, client: &str) -> Result<String> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let mut said = String::new();
    (&mut stream).take(1024).read_to_string(&mut said).await?;
    stream.write_all(format!("hello, {client}").as_bytes()).await?;
    stream.shutdown().await?;
    Ok(said)
}
