//! `k8s_psat`: an agent in a pod shows its projected service account token, and the cluster's API server
//! says whose it is, in which pod and on which node.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "server")]
mod cluster;
#[cfg(feature = "server")]
mod review;
#[cfg(feature = "server")]
pub mod server;

use serde::{Deserialize, Serialize};

/// The name in SPIRE's protocol, in IDs and in selectors.
pub const NAME: &str = "k8s_psat";

/// What the node shows, as SPIRE writes it.
#[derive(Deserialize, Serialize)]
pub(super) struct Payload {
    /// The cluster, by the name that both configurations have for it.
    pub(super) cluster: String,
    /// The token.
    pub(super) token: String,
}
