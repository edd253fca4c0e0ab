//! One question to a container engine, over its socket. Docker's API; Podman speaks it too.

use std::{fmt, io, path::Path, time::Duration};

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, task::AbortHandle, time::timeout};

use crate::cgroups::ContainerId;

/// Why an engine gave no answer. Of what it said nothing is repeated: it may hold secrets of a container.
#[derive(Debug)]
pub(super) enum Silence {
    /// Nobody listens there.
    Absent(io::Error),
    /// Somebody listens there, but not the user who has to.
    Impostor { uid: u32 },
    /// It took too long.
    Late,
    /// It knows no such container.
    NoSuchContainer,
    /// It refused.
    Refused(StatusCode),
    /// Its answer is longer than any container needs.
    TooLong,
    /// It speaks another language.
    NotHttp,
}

/// Asks the engine at `socket`, which must run as `owner` or as root, to describe a container.
pub(super) async fn inspect(socket: &Path, owner: u32, id: &ContainerId) -> Result<Bytes, Silence> {
    timeout(PATIENCE, converse(socket, owner, id)).await.unwrap_or(Err(Silence::Late))
}

async fn converse(socket: &Path, owner: u32, id: &ContainerId) -> Result<Bytes, Silence> {
    let stream = UnixStream::connect(socket).await.map_err(Silence::Absent)?;
    // Of whoever made the socket listen, so nobody who can merely replace a file speaks for the engine.
    let uid = stream.peer_cred().map_err(Silence::Absent)?.uid();
    if uid != owner && uid != 0 {
        return Err(Silence::Impostor { uid });
    }
    let mut connection = http1::Builder::new();
    connection.max_buf_size(LONGEST_HEAD).max_headers(64);
    let (mut sender, connection) =
        connection.handshake(TokioIo::new(stream)).await.map_err(|_| Silence::NotHttp)?;
    let _ends_with_us = Ended(tokio::spawn(connection).abort_handle());
    // Without a version in the path, each engine answers in its own newest one; what is read is in all.
    let request = Request::get(format!("/containers/{id}/json"))
        .header(HOST, "engine")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Silence::NotHttp)?;
    let answer = sender.send_request(request).await.map_err(|_| Silence::NotHttp)?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(Silence::NoSuchContainer),
        status => return Err(Silence::Refused(status)),
    }
    match Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Silence::TooLong),
        Err(_) => Err(Silence::NotHttp),
    }
}

/// The task that drives a connection, which must not outlive the question.
struct Ended(AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(error) => {
                write!(f, "does not answer ({error}); start it, or correct its socket's path")
            }
            Self::Impostor { uid } => write!(f, "is not believed, since uid {uid} listens there"),
            Self::Late => write!(f, "did not answer within {PATIENCE:?}"),
            Self::NoSuchContainer => f.write_str("knows no such container"),
            Self::Refused(status) => write!(f, "refused with HTTP status {}", status.as_u16()),
            Self::TooLong => write!(f, "described it in more than {LONGEST_ANSWER} bytes"),
            Self::NotHttp => f.write_str("broke off, or does not speak HTTP"),
        }
    }
}

/// An engine answers in milliseconds, also a busy one in far less than this.
const PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_HEAD: usize = 16 * 1024;
/// Some kilobytes are usual; labels and environment variables can be many.
const LONGEST_ANSWER: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    /// What is made of an engine that answers every question with these bytes, and then with `filler` for as
    /// long as somebody listens.
    async fn asked(answer: &'static [u8], filler: impl Into<Vec<u8>>) -> Result<Bytes, Silence> {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let filler = filler.into();
        let engine = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a question");
            let mut question = [0; 4096];
            let _ = stream.read(&mut question).await.expect("a question");
            stream.write_all(answer).await.expect("it listens");
            while !filler.is_empty() && stream.write_all(&filler).await.is_ok() {}
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
            String::from_utf8_lossy(&question).into_owned()
        });
        let id = ContainerId::parse(&"ab".repeat(32)).expect("an id");
        let owner = nix::unistd::geteuid().as_raw();
        let answered = inspect(&socket, owner, &id).await;
        if answered.is_ok() {
            let question = engine.await.expect("it ended");
            assert!(question.starts_with(&format!("GET /containers/{id}/json HTTP/1.1\r\n")), "{question}");
        }
        answered
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_however_it_is_cut() {
        let whole = asked(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"").await;
        assert_eq!(whole.expect("answered"), "{}");
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n";
        assert_eq!(asked(chunks, b"").await.expect("answered"), "{}");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_none() {
        let none = asked(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"").await;
        assert!(matches!(none, Err(Silence::NoSuchContainer)), "{none:?}");
        let refused = asked(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", b"").await;
        assert!(matches!(refused, Err(Silence::Refused(StatusCode::INTERNAL_SERVER_ERROR))), "{refused:?}");
        for other in [&b"220 mail.example ESMTP\r\n"[..], b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"] {
            let answer = asked(other, b"").await;
            assert!(matches!(answer, Err(Silence::NotHttp)), "{answer:?}");
        }
        let id = ContainerId::parse(&"ab".repeat(32)).expect("an id");
        let absent = inspect(Path::new("/nonexistent/engine.sock"), 0, &id).await;
        assert!(matches!(absent, Err(Silence::Absent(_))), "{absent:?}");
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_cut_off() {
        let chunk = format!("10000\r\n{}\r\n", "[".repeat(0x10000));
        let body = asked(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk).await;
        // By its length, or on a slow machine by the time that it takes.
        assert!(matches!(body, Err(Silence::TooLong | Silence::Late)), "{body:?}");
        let head = asked(b"HTTP/1.1 200 OK\r\n", b"More: and more\r\n").await;
        assert!(matches!(head, Err(Silence::NotHttp | Silence::Late)), "{head:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_says_nothing_is_not_waited_for() {
        let silent = asked(b"", b"").await;
        assert!(matches!(silent, Err(Silence::Late)), "{silent:?}");
    }
}
