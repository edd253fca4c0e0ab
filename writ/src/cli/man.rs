//! `writ man DIR`

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ man /usr/local/share/man/man1        then: man writ-entry-create";

/// Writes a man page for each command.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The directory for them.
    dir: PathBuf,
}

pub(crate) fn run(man: &Man) -> Result<ExitCode> {
    let failed = || format!("cannot write man pages into {}; name a directory of yours", man.dir.display());
    fs::create_dir_all(&man.dir).with_context(failed)?;
    clap_mangen::generate_to(super::help::command(), &man.dir).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}
