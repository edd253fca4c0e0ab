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
