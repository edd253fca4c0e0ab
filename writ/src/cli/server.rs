//! `writ server`: the daemon that knows who may be what.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use daemon::Ready;
use serde::{Deserialize, Serialize};

use super::{Shared, admin, daemons, output};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ server check-config /etc/writ/server.toml
  writ server run --config /etc/writ/server.toml";

#[derive(Debug, Subcommand)]
pub(crate) enum ServerVerb {
    /// Run the server until it is told to end
    Run {
        /// Its configuration (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Ends with its standard input, which is a pipe from `writ up`.
        #[arg(long, hide = true)]
        supervised: bool,
    },
    /// Check a configuration file without starting anything
    CheckConfig {
        /// The file (TOML).
        file: PathBuf,
    },
}

/// What is printed once the server serves.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ServerServing {
    pub(crate) trust_domain: String,
    pub(crate) server_admin: PathBuf,
    pub(crate) server_address: String,
    pub(crate) server_pin: String,
    pub(crate) server_pid: u32,
}

pub(crate) fn run(verb: ServerVerb, shared: &Shared) -> Result<ExitCode> {
    match verb {
        ServerVerb::Run { config, supervised } => {
            let config = load(&config)?;
            let format = shared.output;
            let ready = Ready::new(move |serving: server::Serving| {
                let serving = ServerServing {
                    trust_domain: serving.trust_domain.to_string(),
                    server_admin: serving.socket,
                    server_address: serving.address.to_string(),
                    server_pin: serving.pin.to_string(),
                    server_pid: std::process::id(),
                };
                // Nobody need listen to standard output.
                let _ = output::show(format, &serving, text);
            });
            daemons::run(
                supervised,
                |shutdown| async move { Ok(server::run(config, shutdown, ready).await?) },
            )
        }
        ServerVerb::CheckConfig { file } => {
            admin::warn(&load(&file)?.check()?);
            output::show(shared.output, &serde_json::json!({ "valid": file }), |_| {
                format!("{} is valid", file.display())
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Reads and checks a configuration; what is only doubtful is said when the server starts.
fn load(file: &Path) -> Result<server::Config> {
    let config: server::Config = daemon::load(file)?;
    config.check().with_context(|| file.display().to_string())?;
    config.check_attestors().with_context(|| file.display().to_string())?;
    Ok(config)
}

fn text(serving: &ServerServing) -> String {
    format!(
        "The server of {} listens on {}; agents know it by {}",
        serving.trust_domain, serving.server_address, serving.server_pin
    )
}
