//! `writ attest record`: what the agent sees of a process, for a test that needs no process.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::super::{
    Shared,
    output::{self, Format},
};
use crate::wire;

#[derive(Debug, clap::Args)]
pub(crate) struct Record {
    /// The process with this id.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
    /// What to call the test.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub(crate) async fn run(record: Record, shared: &Shared) -> Result<ExitCode> {
    let json = wire::explain::explain(&shared.sockets.explain()?, Some(record.pid)).await?;
    let seen: Value = serde_json::from_slice(&json).context("the agent's answer is not JSON")?;
    match shared.output {
        // Its entries are another file's matter.
        Format::Json => {
            let recording = json!({ "selectors": seen["selectors"], "notes": seen["notes"] });
            output::line(&recording.to_string())?;
        }
        Format::Text => {
            let name = record.name.unwrap_or_else(|| format!("process {}", record.pid));
            output::line(test(&name, &seen)?.trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A test that holds now: the facts as they are, and the identities that they give.
fn test(name: &str, seen: &Value) -> Result<String> {
    let texts = |list: &Value, field: &str| -> Vec<Value> {
        list.as_array().into_iter().flatten().map(|item| item[field].clone()).collect()
    };
    let selectors = texts(&seen["selectors"], "selector");
    let mut expect = json!({ "selectors": selectors });
    // A workload does not see entries.
    if seen["matches"].is_array() {
        let ids: std::collections::BTreeSet<String> = texts(&seen["matches"], "spiffe_id")
            .iter()
            .filter_map(|id| id.as_str().map(ToOwned::to_owned))
            .collect();
        expect = json!({ "ids": ids });
    }
    let test = json!({ "tests": [{ "name": name, "facts": { "selectors": selectors }, "expect": expect }] });
    serde_norway::to_string(&test).context("cannot write it as YAML")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::file::TestFile;

    #[test]
    fn a_recording_is_a_test_that_is_read_again() {
        let seen = json!({
            "selectors": [{ "selector": "unix:uid:0", "source": "a", "strength": "kernel" }],
            "matches": [{ "id": "e", "spiffe_id": "spiffe://td/a" }, { "id": "f", "spiffe_id": "spiffe://td/a" }],
        });
        let text = test("it: is", &seen).unwrap();
        let file: TestFile = serde_norway::from_str(&text).unwrap();
        assert_eq!(file.tests[0].name, "it: is");
        assert_eq!(file.tests[0].expect.ids.as_ref().map(Vec::len), Some(1));
    }
}
