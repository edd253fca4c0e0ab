//! `cargo xtask bench`.
use anyhow::Result;
use std::process::ExitCode;
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A short run that proves the bench works; its figures are noisier
    #[arg(long)]
    quick: bool,
}
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let _ = options.quick;
    Ok(ExitCode::SUCCESS)
}
