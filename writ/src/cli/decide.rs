//! `writ decide`: one decision with its reasons, as a query.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Shared, output};
use crate::wire;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ decide -f request.json

The request: { \"task\": ID, \"tool\": \"mail/send\", \"arguments\": { … }, \"definition_sha256\": HEX }
Nothing is permitted, spent or recorded. Exit 1 where the decision would be no.";

#[derive(Debug, clap::Args)]
pub(crate) struct Decide {
    /// The request (JSON).
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

pub(crate) async fn run(decide: Decide, shared: &Shared) -> Result<ExitCode> {
    let request = fs::read(&decide.file).with_context(|| format!("cannot read {}", decide.file.display()))?;
    let verdict = wire::decide::decide(&shared.sockets.agent()?, request).await?;
    output::show(shared.output, &verdict, text)?;
    let permitted = verdict["decision"].get("permit").is_some();
    Ok(if permitted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The answer first, then why, then what it rests on.
fn text(verdict: &Value) -> String {
    let plain = |value: &Value| output::plain(value.as_str().unwrap_or_default());
    let list = |value: &Value| {
        let names = value.as_array().into_iter().flatten().map(plain);
        names.collect::<Vec<_>>().join(", ")
    };
    let mut text = match (&verdict["decision"]["permit"], &verdict["decision"]["deny"]) {
        (Value::Object(permit), _) => {
            format!("permitted by {}\n", list(permit.get("policies").unwrap_or(&Value::Null)))
        }
        (_, deny) => {
            let mut text = format!("denied: {}\n  {}\n", plain(&deny["code"]), plain(&deny["explanation"]));
            if deny["policies"].as_array().is_some_and(|policies| !policies.is_empty()) {
                text.push_str(&format!("  policies      {}\n", list(&deny["policies"])));
            }
            if deny["requestable"] == true {
                text.push_str("  an approval could lift it\n");
            }
            text
        }
    };
    for (name, value) in [
        ("task", plain(&verdict["task"])),
        ("tool", plain(&verdict["tool"])),
        ("effect", plain(&verdict["effect"])),
        ("tier", verdict["tier"].to_string()),
        ("label", verdict["label"].to_string()),
        ("result adds", verdict["result"].to_string()),
        ("policies are", plain(&verdict["policy_version"])),
    ] {
        text.push_str(&format!("  {name:<13} {value}\n"));
    }
    text
}
