//! `writ mcp`: the gate in front of MCP servers.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use daemon::Ready;
use mcp_gateway::{Bridge, Config, Direct, Serving};
use registry::scope::ResourceName;
use serde_json::json;

use super::{Shared, Usage, client, daemons, output};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ mcp check-config /etc/writ/gate.toml              whether a gate could run with it
  writ mcp serve --config /etc/writ/gate.toml            a gate for every process of this machine
  writ mcp stdio --gate /run/writ-gate/mcp.sock          the way to it for clients that start commands
  writ mcp stdio --resource files -- mcp-server-files /srv   a gate around one command, for honest use only";

#[derive(Debug, Subcommand)]
pub(crate) enum McpVerb {
    /// Run a gate until it is told to end
    Serve {
        /// The configuration (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration file without starting anything
    CheckConfig {
        /// The file (TOML).
        file: PathBuf,
    },
    /// Speak MCP on standard input and output: carried to a gate, or decided around a command
    Stdio(Stdio),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Stdio {
    /// Carry messages to the gate on this socket.
    #[arg(long, value_name = "SOCKET", conflicts_with = "command", required_unless_present = "command")]
    gate: Option<PathBuf>,
    /// Which of the gate's resources, or which resource the command is.
    #[arg(long, value_name = "NAME")]
    resource: Option<ResourceName>,
    /// For which task, where this process's domain has several.
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// An MCP server that is started here, beside its caller, who could start it without a gate too.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) fn run(verb: McpVerb, shared: &Shared) -> Result<ExitCode> {
    match verb {
        McpVerb::Serve { config } => {
            let config = load(&config)?;
            let format = shared.output;
            let ready = Ready::new(move |serving: Serving| {
                let shown = json!({ "mcp": serving.socket, "resources": serving.resources });
                let text = format!(
                    "The gate of {} serves {}",
                    serving.resources.join(", "),
                    serving.socket.display()
                );
                // Nobody need listen to standard output.
                let _ = output::show(format, &shown, |_| text);
            });
            daemons::run(
                false,
                |shutdown| async move { Ok(mcp_gateway::serve(config, shutdown, ready).await?) },
            )
        }
        McpVerb::CheckConfig { file } => {
            load(&file)?;
            let text = format!("{} is valid", file.display());
            output::show(shared.output, &json!({ "valid": file }), |_| text)?;
            Ok(ExitCode::SUCCESS)
        }
        McpVerb::Stdio(stdio) => client(stdio.run(shared)),
    }
}

impl Stdio {
    async fn run(self, shared: &Shared) -> Result<ExitCode> {
        if let Some(gate) = self.gate {
            let bridge = Bridge { gate, resource: self.resource, task: self.task };
            mcp_gateway::bridge(bridge).await.context("the client cannot be spoken with")?;
            return Ok(ExitCode::SUCCESS);
        }
        let resource = self
            .resource
            .ok_or_else(|| Usage("name the resource that the command is with --resource NAME".to_owned()))?;
        let env = std::env::vars().collect();
        let authz = shared.sockets.authz()?;
        mcp_gateway::direct(Direct { resource, command: self.command, env, authz, task: self.task }).await?;
        Ok(ExitCode::SUCCESS)
    }
}

fn load(file: &Path) -> Result<Config> {
    let config: Config = daemon::load(file)?;
    config.check().with_context(|| format!("{} is not a valid configuration", file.display()))?;
    Ok(config)
}
