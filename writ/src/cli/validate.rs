//! `writ validate`: pure checks for conformance suites.

use std::{
    io::{self, BufReader, BufWriter},
    process::ExitCode,
};

use anyhow::Result;
use spiffe::Timestamp;

pub(crate) const EXAMPLES: &str = "\
Example:
  echo '{\"id\":1,\"op\":\"trust_domain\",\"input\":{\"s_b64\":\"YWNtZS5leGFtcGxl\"}}' | writ validate --stdin-jsonl";

#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// Answer each line of standard input (one JSON object) by one line on standard output.
    #[arg(long, required = true)]
    stdin_jsonl: bool,
}

pub(crate) fn run(_: &Validate) -> Result<ExitCode> {
    let now = || Timestamp::from_unix_millis(daemon::now_unix_millis());
    crate::validate::run(BufReader::new(io::stdin().lock()), BufWriter::new(io::stdout().lock()), now)?;
    Ok(ExitCode::SUCCESS)
}
