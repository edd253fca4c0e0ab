//! `/live`, `/ready` and `/metrics` over HTTP, by custom on loopback.
//!
//! `/live` answers as long as the process can. `/ready` says whether it does its whole work, and if
//! not, what is missing: a daemon that serves what it has while its server is down says so here.

use std::{collections::BTreeMap, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use crate::{Metrics, Shutdown};

/// Probes and scrapers are few.
const MOST_CONNECTIONS: usize = 64;
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
const CONNECTION_LIVES: Duration = Duration::from_secs(60);
const LARGEST_HEADERS: usize = 16 * 1024;

/// What a daemon knows of its own health. Cloned into every part that has something to say.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Parts that do not do their work, and why.
    missing: Arc<RwLock<BTreeMap<&'static str, String>>>,
    metrics: Metrics,
    changed: Arc<watch::Sender<()>>,
}

impl Health {
    /// Healthy, as nobody has said otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// `part` does its work.
    pub fn ready(&self, part: &'static str) {
        self.missing.write().remove(part);
        self.changed.send_replace(());
    }

    /// `part` does not do its work, because of `reason`. A part that starts slowly says this first.
    pub fn unready(&self, part: &'static str, reason: impl Into<String>) {
        self.missing.write().insert(part, reason.into());
        self.changed.send_replace(());
    }

    /// Which parts do not do their work, and why; empty when all is well.
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        self.missing.read().clone()
    }

    /// Changes when `reasons` may have.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The daemon's figures.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Listens on `address`; `serve` with what comes back.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "health and metrics are served beyond this machine, to anyone who connects");
    }
    TcpListener::bind(address).await
}

/// Answers on `listener` until the end is requested.
pub async fn serve(listener: TcpListener, health: Health, shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let stream = tokio::select! {
            () = shutdown.requested() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: others will be closed.
                    tracing::warn!(%error, "cannot accept a connection for health");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let health = health.clone();
        tokio::spawn(async move {
            let _place = place;
            // A client that errs or lingers loses its connection and nothing else happens.
            let _ = tokio::time::timeout(CONNECTION_LIVES, converse(stream, health)).await;
        });
    }
}

async fn converse(stream: TcpStream, health: Health) -> hyper::Result<()> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = respond(&health, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(LARGEST_HEADERS)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

fn respond(health: &Health, method: &Method, path: &str) -> Response<Full<Bytes>> {
    const JSON: &str = "application/json";
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    let (status, kind, body) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/live") => (StatusCode::OK, JSON, "{\"live\":true}\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/ready") => {
            let reasons = health.reasons();
            let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons });
            (status, JSON, format!("{body}\n"))
        }
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, TEXT, health.metrics.render()),
        (_, "/live" | "/ready" | "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new()),
        _ => (StatusCode::NOT_FOUND, TEXT, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    }

    #[tokio::test]
    async fn a_daemon_says_whether_it_lives_and_what_it_lacks() {
        let health = Health::new();
        health.metrics().gauge("writ_streams", "Open streams.", &[]).set(4);
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = Shutdown::manual();
        let serving = tokio::spawn(serve(listener, health.clone(), shutdown));

        assert!(ask(address, &get("/live")).await.starts_with("HTTP/1.1 200"));
        health.unready("server", "the server at 127.0.0.1:8081 does not answer");
        let answer = ask(address, &get("/ready")).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let json = r#"{"ready":false,"reasons":{"server":"the server at 127.0.0.1:8081 does not answer"}}"#;
        assert!(answer.contains(json), "{answer}");
        health.ready("server");
        assert!(ask(address, &get("/ready")).await.contains(r#"{"ready":true,"reasons":{}}"#));
        assert!(ask(address, &get("/metrics")).await.contains("writ_streams 4"));
        assert!(ask(address, &get("/secret")).await.starts_with("HTTP/1.1 404"));
        let post = "POST /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(ask(address, post).await.starts_with("HTTP/1.1 405"));

        trigger.request();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn garbage_is_answered_by_an_end_and_the_next_probe_by_an_answer() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_trigger, shutdown) = Shutdown::manual();
        tokio::spawn(serve(listener, Health::new(), shutdown));
        assert!(!ask(address, "\u{0}\u{1}\u{2} garbage\r\n\r\n").await.contains("200 OK"));
        assert!(ask(address, &get("/live")).await.contains("200 OK"));
    }
}
