//! `writ agent`: the daemon on each node.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use daemon::Ready;
use serde::{Deserialize, Serialize};
use server_api::ServerAddress;
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
    server: Option<ServerAddress>,
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
    pub(crate) authz: PathBuf,
    pub(crate) agent_admin: PathBuf,
    pub(crate) agent_pid: u32,
}

pub(crate) fn run(verb: AgentVerb, shared: &Shared) -> Result<ExitCode> {
    match verb {
        AgentVerb::Run(Run { config, flags, supervised }) => {
            let config = match config {
                Some(file) => load(&file)?,
                None => flags.config(shared)?,
            };
            let format = shared.output;
            let ready = Ready::new(move |serving: agent::Serving| {
                let serving = AgentServing {
                    spiffe_id: serving.spiffe_id.to_string(),
                    workload_api: format!("unix://{}", serving.workload_socket.display()),
                    authz: serving.authz_socket,
                    agent_admin: serving.agent_socket,
                    agent_pid: std::process::id(),
                };
                // Nobody need listen to standard output.
                let _ = output::show(format, &serving, text);
            });
            daemons::run(supervised, |shutdown| async move { Ok(agent::run(config, shutdown, ready).await?) })
        }
        AgentVerb::CheckConfig { file } => {
            load(&file)?;
            let text = format!("{} is valid", file.display());
            output::show(shared.output, &serde_json::json!({ "valid": file }), |_| text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Flags {
    /// The configuration that the flags are; the directories are those of `--data`.
    fn config(self, shared: &Shared) -> Result<agent::Config> {
        let layout = shared.sockets.layout()?;
        let server = self.server.context("--server names the server to join")?;
        let first_start = !layout.agent_state().exists();
        if first_start && self.pin.is_none() && !self.insecure_bootstrap {
            return Err(Usage(
                "a new agent knows its server by --pin, as `writ token create` prints it".to_owned(),
            )
            .into());
        }
        // The directory of the server's state too, should there be one some day: nobody else looks in.
        daemon::private_dir(&layout.state)?;
        let mut config = agent::Config::new(server, layout.agent_state(), layout.private, layout.public);
        config.token = self.token.map(Into::into);
        config.token_file = self.token_file;
        config.pin = self.pin;
        config.trust_domain = self.trust_domain;
        config.insecure_bootstrap = self.insecure_bootstrap;
        config.insecure_peer_by_pid = self.insecure_peer_by_pid;
        config.health_listen = self.health_listen;
        Ok(config)
    }
}

fn load(file: &Path) -> Result<agent::Config> {
    let config: agent::Config = daemon::load(file)?;
    config.check().with_context(|| format!("{} is not a valid configuration", file.display()))?;
    Ok(config)
}

fn text(serving: &AgentServing) -> String {
    format!("The agent of {} serves {}", serving.spiffe_id, serving.workload_api)
}
