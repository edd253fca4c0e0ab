//! The server from outside: real sockets, real TLS, a real log on disk.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on fails where it stands")]

mod agents;
mod callers;
mod entries;
mod following;
mod foreign;
mod joining;
mod private;
mod restarting;
mod returning;
mod rotating;
mod signing;
mod spire;
mod strangers;
mod support;
mod tasks;
mod tokens_for_workloads;
mod work;
