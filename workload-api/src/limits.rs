//! What one caller may take, so that there is always something left for the others.

use std::time::Duration;

/// The limits that an administrator may change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections that one user may have open.
    pub connections_per_uid: usize,
    /// Requests and streams that one user may have open.
    pub requests_per_uid: usize,
    /// Requests and streams that one process may have open.
    pub requests_per_process: usize,
    /// Streams of one user that may wait for an identity.
    pub waiting_per_uid: usize,
    /// How long one waits.
    pub waiting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_uid: 1024,
            requests_per_uid: 4096,
            requests_per_process: 1024,
            waiting_per_uid: 64,
            waiting: Duration::from_secs(30),
        }
    }
}

/// From connecting to the end of HTTP/2's preface.
pub(crate) const PREFACE_WITHIN: Duration = Duration::from_secs(5);
/// From connecting to the first request. A client that comes later connects again by itself.
pub(crate) const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// How long a connection without an open request is kept.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
/// How long a request's own message may take.
pub(crate) const MESSAGE_WITHIN: Duration = Duration::from_secs(5);
/// How often a connection is asked whether its client is still there, and how long that may take.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// All headers of a request.
pub(crate) const METADATA_BYTES: u32 = 16 * 1024;
/// A request's message.
pub(crate) const REQUEST_BYTES: usize = 64 * 1024;
/// How long a caller whose SVID is being made waits for it.
pub(crate) const PREPARING: Duration = Duration::from_secs(5);
