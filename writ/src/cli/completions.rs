//! `writ completions SHELL`

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use clap_complete::Shell;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ completions bash > /etc/bash_completion.d/writ
  writ completions zsh > ~/.zfunc/_writ";

/// Prints the completions of one shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell that will read them.
    shell: Shell,
}

pub(crate) fn run(completions: &Completions) -> Result<ExitCode> {
    // Written to memory first: the generator panics where standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut super::help::command(), "writ", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
