//! `workload.sock`: any process asks who it is.
//!
//! It has a thread and a runtime of its own. A hop between threads costs more than most answers, and
//! nothing else that the agent does, be it a thousand signatures, delays a caller.

use std::{io, path::PathBuf, sync::Arc, thread};

use peer::{ListenError, Listener, Pinning, Watch};
use tokio::{runtime, sync::oneshot, sync::watch};
use workload_api::{WorkloadApi, socket};

use crate::callers::Caller;

/// The open socket.
pub(crate) struct PublicDoor {
    /// Resolves when nothing is served any more.
    pub(crate) closed: oneshot::Receiver<()>,
}

/// Why the socket is not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There is no thread for it.
    #[error("cannot start the thread of the workload socket: {0}")]
    Thread(#[from] io::Error),
}

/// Opens the socket and serves until `stop` says true.
pub(crate) async fn open<S>(
    path: PathBuf,
    pinning: Pinning,
    api: Arc<WorkloadApi<S>>,
    connections_per_uid: usize,
    watch: Arc<Watch>,
    stop: watch::Receiver<bool>,
) -> Result<PublicDoor, DoorError>
where
    S: workload_api::Source<Caller = Caller>,
{
    let (bound, is_bound) = oneshot::channel();
    let (closing, closed) = oneshot::channel();
    thread::Builder::new().name("workload-api".to_owned()).spawn(move || {
        let serving = runtime().map_err(DoorError::from).and_then(|runtime| {
            let listener = {
                let _inside = runtime.enter();
                Listener::bind(&path, MODE, pinning)?
            };
            Ok((runtime, listener))
        });
        let (serving, result) = match serving {
            Ok(serving) => (Some(serving), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // If nobody waits, the agent has ended before it began.
        let _ = bound.send(result);
        if let Some((runtime, listener)) = serving {
            // As a task: waking the future that a runtime blocks on costs a system call each time.
            let serving = runtime.spawn(socket::serve(listener, api, connections_per_uid, watch, stop));
            if let Err(broken) = runtime.block_on(serving) {
                tracing::error!(%broken, "the workload socket broke");
            }
            runtime.shutdown_background(); // a file system that hangs must not hold up the end
        }
        let _ = closing.send(());
    })?;
    is_bound.await.map_err(|_| io::Error::other("it ended at once"))??;
    Ok(PublicDoor { closed })
}

fn runtime() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("workload-api-reads")
        // Sockets are looked at after every few answers: under load, who comes new waits for those alone.
        .event_interval(EVENT_INTERVAL)
        .max_blocking_threads(MOST_READERS)
        .build()
}

/// Whoever reaches the socket may ask; what each gets is another matter.
const MODE: u32 = 0o777;
const EVENT_INTERVAL: u32 = 3;
/// Threads that read executables and names. Attestors give each user a few.
const MOST_READERS: usize = 128;
