//! `writ agent`: the daemon on each node.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Subcommand;
use daemon::Ready;
use serde::{Deserialize, Serialize};
use spiffe::{Pin, TrustDomain};

use super::{Shared, Usage, daemons, output};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ agent run --server 10.0.0.5:8081 --token web-1.k3… --pin sha256:5f…   as `writ token create` prints it
  writ agent run --config /etc/writ/agent.toml
  writ agent check-config /etc/writ/agent.toml";

#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// Run the agent until it is told to end: from a file, or from flags alone
    Run(Run),
    /// Check a configuration file without starting anything
    CheckConfig {
        /// The file (TOML).
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The configuration (TOML); with it no other flag is needed or taken.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "token", "token_file", "pin", "trust_domain"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// Ends with its standard input, which is a pipe from `writ up`.
    #[arg(long, hide = true)]
    supervised: bool,
}

#[derive(Debug, clap::Args)]
struct Flags {
    /// The server to join.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "config")]
    server: Option<String>,
    /// The join token, needed until this machine has joined.
    #[arg(long, value_name = "TOKEN", env = "WRIT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file with the join token, so that it stands in no process list.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// What the server is known by.
    #[arg(long, value_name = "sha256:HEX")]
    pin: Option<Pin>,
    /// Refuse a server of another trust domain.
    #[arg(long, value_name = "TD")]
    trust_domain: Option<TrustDomain>,
    /// Believe the first server that answers, whoever it is.
    #[arg(long, conflicts_with_all = ["pin", "config"])]
    insecure_bootstrap: bool,
    /// Identify processes by their id alone, as kernels before Linux 6.5 must: a process id that is used
    /// again can be mistaken.
    #[arg(long, conflicts_with = "config")]
    insecure_peer_by_pid: bool,
    /// Where /live, /ready and /metrics are served.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "config")]
    health_listen: Option<std::net::SocketAddr>,
}

/// What is printed once the agent serves.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct AgentServing {
    pub(crate) spiffe_id: String,
    pub(crate) workload_api: String,
    pub(crate) agent_admin: PathBuf,
    pub(crate) agent_pid: u32,
}
