//! `writ completions SHELL`

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

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
    // Written to memory first: the generator panics where standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut super::Writ::command(), "writ", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
