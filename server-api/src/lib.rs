//! What is said to and by a server: typed clients, conversions between wire and registry types, and
//! both ends of mutual TLS.
//!
//! Generated types stay inside `wire` (conversions) and `glue` (clients, where generated code meets the
//! product's types). Who may call what is the server's to say.

pub mod accept;
pub mod connect;
mod glue;
pub mod wire;

pub use connect::{ConnectError, ServerAddress};
pub use glue::{CallError, admin, attest, audit, authority, bundles, mint, node, recorder, spire, tasks};
