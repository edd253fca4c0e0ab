//! Speaking to an agent over its Unix sockets, and turning its messages into our own types.

pub(crate) mod agent_status;
pub(crate) mod decide;
pub(crate) mod explain;
pub(crate) mod launch;
pub(crate) mod task;
pub(crate) mod workload;

use std::path::Path;

use anyhow::{Result, anyhow};
use server_api::connect::connect_private;
use tonic::transport::Channel;

use crate::cli::sockets::way_out;

/// Connects to the agent that listens on `socket`.
async fn connect(socket: &Path) -> Result<Channel> {
    connect_private(socket).await.map_err(|error| anyhow!("{error}; {}", way_out(socket, "agent")))
}
