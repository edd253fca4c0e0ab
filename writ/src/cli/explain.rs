//! `writ explain`: why a process has the identity that it has, or has none.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{
    Shared,
    output::{self, Format, plain},
};
use crate::wire;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ explain --self                 what the agent sees of this very command
  writ explain --pid 4242             an administrator also sees the entries that match or almost match";

/// Which process to explain.
#[derive(Debug, clap::Args)]
#[group(id = "whom", required = true, multiple = false)]
pub(crate) struct Explain {
    /// The process with this id.
    #[arg(long, group = "whom", value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
    /// This command itself, as any workload may ask.
    #[arg(long = "self", group = "whom")]
    own: bool,
}

pub(crate) async fn run(explain: Explain, shared: &Shared) -> Result<ExitCode> {
    let socket = if explain.own { shared.sockets.workload()? } else { shared.sockets.explain()? };
    let json = wire::explain::explain(&socket, explain.pid).await?;
    match shared.output {
        Format::Json => output::line(&String::from_utf8(json).context("the agent's answer is not text")?)?,
        Format::Text => {
            let seen: Seen =
                serde_json::from_slice(&json).context("the agent's answer is of a newer kind")?;
            output::line(seen.to_text().trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The agent's answer, as far as it is shown here.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    pid: i64,
    #[serde(default)]
    selectors: Vec<Fact>,
    #[serde(default)]
    notes: Vec<String>,
    /// Absent where the asker is no administrator.
    matches: Option<Vec<Named>>,
    /// Entries that some selectors match, with those that do not.
    almost: Option<Vec<Almost>>,
}

#[derive(Debug, Deserialize)]
struct Fact {
    selector: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    strength: String,
}

/// An entry, as far as it is shown here.
#[derive(Debug, Deserialize)]
struct Named {
    id: String,
    spiffe_id: String,
}

#[derive(Debug, Deserialize)]
struct Almost {
    entry: Named,
    missing: Vec<String>,
}

impl Seen {
    /// The answer for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("process {}\n\n", self.pid);
        let heading = ["SELECTOR", "STRENGTH", "SOURCE"].map(str::to_owned).to_vec();
        let facts = self
            .selectors
            .iter()
            .map(|fact| [&fact.selector, &fact.strength, &fact.source].map(|cell| plain(cell)).to_vec());
        text.push_str(&output::table(&std::iter::once(heading).chain(facts).collect::<Vec<_>>()));
        if let Some(matches) = &self.matches {
            text.push_str(if matches.is_empty() { "\nno entry matches\n" } else { "\nentries that match\n" });
            for entry in matches {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {}  (entry {})", plain(&entry.spiffe_id), plain(&entry.id));
            }
        }
        if let Some(almost) = self.almost.as_ref().filter(|almost| !almost.is_empty()) {
            text.push_str("\nentries that almost match\n");
            for Almost { entry, missing } in almost {
                let _ = writeln!(text, "  {}  (entry {})", plain(&entry.spiffe_id), plain(&entry.id));
                for selector in missing {
                    let _ = writeln!(text, "    but it is not  {}", plain(selector));
                }
            }
        }
        for note in &self.notes {
            let _ = write!(text, "\nnote: {}\n", plain(note));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrator_reads_which_selector_differs() {
        let json = r#"{"pid":7,"selectors":[{"selector":"unix:uid:0","source":"SO_PEERCRED","strength":"kernel"}],
            "matches":[],"almost":[{"entry":{"id":"e1","spiffe_id":"spiffe://td/a"},"missing":["unix:path:/bin/a"]}]}"#;
        let text = serde_json::from_str::<Seen>(json).unwrap().to_text();
        assert!(
            text.contains("no entry matches\n\nentries that almost match\n  spiffe://td/a  (entry e1)\n"),
            "{text}"
        );
        assert!(text.contains("but it is not  unix:path:/bin/a"), "{text}");
    }

    #[test]
    fn a_workload_reads_nothing_about_entries() {
        let text =
            serde_json::from_str::<Seen>(r#"{"pid":7,"selectors":[],"notes":["x"]}"#).unwrap().to_text();
        assert!(!text.contains("entr"), "{text}");
        assert!(text.contains("note: x"));
    }
}
