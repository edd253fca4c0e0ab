//! `writ backup`: everything that a server needs to be itself again, sealed in one file.

mod create;
mod restore;
mod secret;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};

use super::Shared;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ backup create /backups/today.age               asks for a passphrase
  writ backup key /safe/backup.key                    makes a key instead, and prints its recipient
  writ backup create - --recipients-file backup.pub | ssh elsewhere 'cat > today.age'
  writ backup restore today.age --data w --identity-file backup.key
  writ backup restore today.age --config /etc/writ/server.toml
  writ backup accept --data w                         log.db was put back: go on from it

A backup is an age file; `age --decrypt` opens it too.";

#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Back the running server up into a new file, or to standard output
    Create(create::Create),
    /// Make a backup the state of a server that is not running
    Restore(restore::Restore),
    /// Go on from an older copy of the log that was put in its place
    Accept(restore::Accept),
    /// Make a key that backups can be sealed for
    Key {
        /// The new file that holds the secret.
        file: PathBuf,
    },
}

/// Which server's state.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The configuration of the server (TOML), where it is not one of `writ up`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Forget all nodes but the banned ones: each machine must join with a new token.
    #[arg(long)]
    evict_nodes: bool,
}

pub(crate) async fn run(verb: BackupVerb, shared: &Shared) -> Result<ExitCode> {
    match verb {
        BackupVerb::Create(create) => create::run(create, shared).await?,
        BackupVerb::Restore(restore) => restore::restore(restore, shared)?,
        BackupVerb::Accept(accept) => restore::accept(&accept, shared)?,
        BackupVerb::Key { file } => secret::make(&file, shared)?,
    }
    Ok(ExitCode::SUCCESS)
}
