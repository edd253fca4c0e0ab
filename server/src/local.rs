//! The private socket: who is at the other end, the kernel says.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use daemon::DiskError;
use server_api::accept::Timed;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tonic::transport::server::Connected;

/// A process on the private socket.
#[derive(Clone, Debug)]
pub(crate) struct LocalPeer {
    /// Its user.
    pub(crate) uid: u32,
    /// Its process id when it connected.
    pub(crate) pid: i32,
}

/// A connection of a process that may be here.
pub(crate) struct LocalConnection {
    stream: Timed<UnixStream>,
    peer: LocalPeer,
    _place: OwnedSemaphorePermit,
}

const PREFACE_WITHIN: Duration = Duration::from_secs(5);
const MOST_CONNECTIONS: usize = 1024;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Listens at `path`, in the place of a socket that an earlier server left. The directory's lock is
/// held, so nobody else serves there.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, DiskError> {
    let failed = |action, source| DiskError::Io { action, path: PathBuf::from(path), source };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            fs::remove_file(path).map_err(|source| failed("remove the old socket", source))?;
        }
        Ok(_) => return Err(DiskError::WrongKind { path: path.to_owned(), wanted: "socket" }),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|source| failed("listen at", source))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|source| failed("close", source))?;
    Ok(listener)
}

/// Accepts processes of root and of the server's own user for as long as the receiver is there.
pub(crate) fn accept(listener: UnixListener) -> mpsc::Receiver<io::Result<LocalConnection>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let places = std::sync::Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Ok(place) = places.clone().try_acquire_owned() else { continue };
                    let Some(peer) = allowed(&stream) else { continue };
                    let stream = Timed::new(stream, PREFACE_WITHIN, None);
                    let _ = sender.send(Ok(LocalConnection { stream, peer, _place: place })).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the private socket");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    });
    receiver
}

/// The socket's mode keeps others out already; this holds when somebody opens the mode by mistake.
fn allowed(stream: &UnixStream) -> Option<LocalPeer> {
    let credentials = stream.peer_cred().ok()?;
    let own = rustix::process::geteuid().as_raw();
    let uid = credentials.uid();
    if uid != 0 && uid != own {
        tracing::warn!(uid, "a process of another user was turned away from the private socket");
        return None;
    }
    Some(LocalPeer { uid, pid: credentials.pid().unwrap_or_default() })
}

impl Connected for LocalConnection {
    type ConnectInfo = LocalPeer;
    fn connect_info(&self) -> LocalPeer {
        self.peer.clone()
    }
}

impl AsyncRead for LocalConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for LocalConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
