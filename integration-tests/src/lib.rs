//! The harness of the stories in `tests/`: it starts the real `writ`, speaks to its real sockets, and
//! ends only what it started.
//!
//! A story calls [`Writ::up`], says what an administrator or a workload would do, and compares. The
//! harness panics with a sentence where something did not happen in time, and shows the logs of what
//! it started. It knows Writ only from outside: the binary, the sockets, the published protocols.

pub mod admin;
pub mod attacker;
pub mod cluster;
pub mod daemon;
pub mod engine;
pub mod figures;
mod folder;
pub mod gate;
pub mod guarded;
pub mod needs;
pub mod node;
pub mod pki;
pub mod raw;
mod running;
pub mod spire;
pub mod systemd;
pub mod tasks;
pub mod tls;
pub mod workload;
mod writ;

pub use folder::Folder;
pub use running::{Running, eventually};
pub use writ::{Answer, Ready, Writ, example, test_workload, writ_binary, writ_command};
