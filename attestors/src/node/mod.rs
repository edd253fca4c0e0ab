//! How a node proves who it is, both halves side by side: `agent.rs` of an attestor runs on the node,
//! `server.rs` beside the registry. What they say to each other is SPIRE's, so that either half also
//! works with SPIRE's other one.
//!
//! A stranger speaks first, so everything is bounded before it is looked at, and what comes of it is
//! [`Verified`]: made of nothing but bytes that somebody who is trusted vouched for. Whether a node that
//! proved who it is may come in is decided in `registry`.

#[cfg(feature = "agent")]
pub mod agent;
pub mod k8s_psat;
pub mod oidc;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
mod template;
#[cfg(feature = "server")]
mod verified;
pub mod x509pop;

#[cfg(feature = "server")]
pub use template::{Template, TemplateError};
#[cfg(feature = "server")]
pub use verified::Verified;

/// The longest payload, and the longest answer to a challenge, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;
