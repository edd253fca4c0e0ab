//! What a process asks of its agent, over a Unix socket: the SPIFFE Workload API, and Writ's `explain`, launches and
//! tasks.
//!
//! Each method has a file that tells its story. [`socket::serve`] answers [`WorkloadApi`] on
//! the connections of a [`peer::Listener`], whose callers are held before a byte is read, and keeps one
//! caller's flood from delaying another; [`Source`] is who answers. Not here: what a caller may have, and how
//! that is found out (`agent`).

mod begin_task;
mod call;
mod end_task;
mod entitled;
mod explain;
mod fetch_jwt_bundles;
mod fetch_jwt_svid;
mod fetch_x509_bundles;
mod fetch_x509_svid;
mod grpc;
mod headers;
mod launch;
mod limits;
mod reflection;
mod refusal;
mod refused;
mod routes;
mod session;
pub mod socket;
mod source;
mod svids;
mod task_token;
mod tasks;
mod validate_jwt_svid;
mod watch_tasks;
mod wire;

pub use entitled::Entitled;
pub use launch::{Command, LaunchEvent, NoLaunch};
pub use limits::Limits;
pub use routes::WorkloadApi;
pub use source::{CannotIdentify, NoExplanation, NoToken, Source, Standing};
pub use svids::{Identity, Svids, X509Bundles, X509Svid};
pub use tasks::{NoTask, TaskShown, TaskToken, Wish};
