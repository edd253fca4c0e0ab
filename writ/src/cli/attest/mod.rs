//! `writ attest`: attestation tests, and recordings for them.

mod record;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::Shared;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ attest test attest-tests.yaml                        the tests of a file; exit 1 where one fails
  writ attest test tests/*.yaml --junit report.xml          and for the CI system to show
  writ attest test tests/*.yaml --recorded                  only those that start nothing
  writ attest record --pid 4242 --name triage               a test from what the agent sees of a process
  writ attest record --pid 4242 --output json > triage.json the recording alone

A file of tests:
  entries: [entries.yaml]        # what `writ apply` takes; without it, the server's own
  tests:
    - name: the triage agent gets its identity
      process: {command: [/opt/triage], user: triage}
      expect: {selectors: [unix:user:triage], ids: [/agent/triage]}
    - name: a stranger gets none
      facts: {selectors: [unix:uid:65534]}
      expect: {ids: []}";

#[derive(Debug, Subcommand)]
pub(crate) enum AttestVerb {
    /// Try whether processes, containers, units and launches are what their tests say
    Test(test::Test),
    /// Write down what the agent sees of a process, as a test or as a recording
    Record(record::Record),
}

pub(crate) async fn run(verb: AttestVerb, shared: &Shared) -> Result<ExitCode> {
    match verb {
        AttestVerb::Test(test) => test::run(test, shared).await,
        AttestVerb::Record(record) => record::run(record, shared).await,
    }
}
