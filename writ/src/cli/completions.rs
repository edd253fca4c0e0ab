//! `writ completions SHELL`

use std::{io, process::ExitCode};

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

/// Prints the completions of one shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell that will read them.
    shell: Shell,
}

pub(crate) fn run(completions: &Completions) -> Result<ExitCode> {
    clap_complete::generate(completions.shell, &mut super::Writ::command(), "writ", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}
