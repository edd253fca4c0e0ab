//! `oidc`: a node shows an ID token of an OpenID Connect issuer, as runners of pipelines have one (GitHub
//! Actions, GitLab, Buildkite) and service accounts of Kubernetes.
//!
//! A token counts once, and from then on for the key that came with it: one that leaks afterwards is
//! worth nothing. SPIRE has no such attestor, so what the halves say is ours.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "server")]
mod conditions;
#[cfg(feature = "server")]
mod keys;
#[cfg(feature = "server")]
pub mod server;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

/// The name in SPIRE's protocol, in IDs and in selectors.
pub const NAME: &str = "oidc";

/// What the node shows.
#[derive(Deserialize, Serialize)]
pub(super) struct Payload {
    /// The token, in compact serialisation.
    pub(super) token: String,
}
