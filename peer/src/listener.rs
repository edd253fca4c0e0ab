//! [`Listener`]: accepts connections on a Unix socket and gives out only those whose caller is held.

use std::{
    fs, io,
    os::fd::AsFd,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::net::{UnixListener, UnixStream};

use crate::{ListenError, Peer, Pinning, pidfd::PidFd, socket_file::SocketFile};

/// A listening Unix socket. The file goes away with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    file: SocketFile,
    pinning: Pinning,
    counts: Arc<Counts>,
}

/// What happened at the door, counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    aborted: AtomicU64,
    exhausted: AtomicU64,
}

impl Listener {
    /// Listens on `path` with this file mode. Fails if somebody else does already, and if the kernel
    /// cannot pin in the way that was chosen. Must be called inside a Tokio runtime.
    pub fn bind(path: &Path, mode: u32, pinning: Pinning) -> Result<Self, ListenError> {
        // Everything below looks up processes by their number, which must mean the same there and here.
        if fs::read_link("/proc/self").ok() != Some(process::id().to_string().into()) {
            return Err(ListenError::ForeignProc);
        }
        if pinning == Pinning::ByPidfd {
            probe_pidfd(path)?;
        }
        let (socket, file) = SocketFile::bind(path, mode)?;
        let failed = |source| ListenError::Io { doing: "listen on", path: path.to_owned(), source };
        let socket = UnixListener::from_std(socket).map_err(failed)?;
        Ok(Self { socket, file, pinning, counts: Arc::default() })
    }

    /// The next connection and the process that made it. A caller that cannot be held is closed and
    /// counted, and the next one is awaited; so is the end of a shortage of file descriptors, with
    /// callers queueing in the kernel meanwhile. So this never fails, and may be cancelled at any time.
    pub async fn accept(&self) -> (UnixStream, Arc<Peer>) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => match Peer::pin(&stream, self.pinning) {
                    Ok(peer) => {
                        self.counts.accepted.fetch_add(1, Relaxed);
                        return (stream, Arc::new(peer));
                    }
                    Err(refusal) => {
                        self.counts.refused.fetch_add(1, Relaxed);
                        tracing::debug!(socket = %self.path().display(), %refusal, "closed a connection");
                        // Without descriptors left for it the caller is closed too: it may try again,
                        // while holding it would take one more descriptor from those who finish.
                        drop(stream);
                        if refusal.is_exhaustion() {
                            self.wait_for_descriptors(&mut pause, &refusal).await;
                        }
                    }
                },
                Err(error) if is_the_callers(&error) => {
                    self.counts.aborted.fetch_add(1, Relaxed);
                }
                Err(error) => self.wait_for_descriptors(&mut pause, &error).await,
            }
        }
    }

    /// The kernel keeps the queue and says at once again that it cannot, so trying must be paced.
    async fn wait_for_descriptors(&self, pause: &mut Duration, error: &(dyn std::error::Error + Sync)) {
        self.counts.exhausted.fetch_add(1, Relaxed);
        if *pause == SHORTEST_PAUSE {
            tracing::warn!(socket = %self.path().display(), %error,
                "cannot accept connections; raise the limit of open files (LimitNOFILE) if this persists");
        }
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// How callers are held.
    pub fn pinning(&self) -> Pinning {
        self.pinning
    }

    /// The counters, which outlive the listener and go on counting while it is used.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }
}

impl Counts {
    /// Connections given out.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Connections closed because their caller could not be held.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Connections that their caller gave up before they were accepted.
    pub fn aborted(&self) -> u64 {
        self.aborted.load(Relaxed)
    }

    /// Times that accepting paused for want of file descriptors or memory.
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Relaxed)
    }
}

/// Asks about our own end of a socket pair, so that an old kernel is an error at the start.
fn probe_pidfd(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Io { doing: "prepare", path: path.to_owned(), source };
    let (socket, _other) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    match PidFd::of_socket(socket.as_fd()) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Err(ListenError::OldKernel),
        Err(error) => Err(failed(error)),
    }
}

fn is_the_callers(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EPROTO | libc::EINTR | libc::EPERM))
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
