//! Waiting until a descriptor can be read.

use std::{io, os::fd::OwnedFd, sync::Arc};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor that a Tokio runtime watches.
pub(crate) type Readable = AsyncFd<Arc<OwnedFd>>;

/// Has the runtime that this is called in watch `fd` for something to read.
pub(crate) fn watch(fd: Arc<OwnedFd>) -> io::Result<Readable> {
    // SAFETY: the AsyncFd owns a share of the descriptor, so it stays open for as long as it is
    // registered, and the number that an OwnedFd gives never changes.
    #[expect(unsafe_code, reason = "tokio leaves it to the caller that the descriptor stays open")]
    let watch = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
    Ok(watch)
}
