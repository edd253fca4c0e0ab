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
    /// Absent where the asker is no administrator, like all that follows.
    #[serde(default)]
    attestors: Vec<Attestor>,
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

/// How an attestor fares.
#[derive(Debug, Deserialize)]
struct Attestor {
    name: String,
    state: String,
    reason: Option<String>,
    took_us: Option<f64>,
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
    #[serde(default)]
    has: Vec<String>,
}

impl Seen {
    /// The answer for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("process {}\n\n", self.pid);
        self.write_facts(&mut text);
        self.write_entries(&mut text);
        self.write_silent(&mut text);
        if self.selectors.iter().any(|fact| fact.strength == "weak") {
            let _ = write!(text, "\nweak: {WEAK}\n");
        }
        for note in &self.notes {
            let _ = write!(text, "\nnote: {}\n", plain(note));
        }
        text
    }

    /// The facts of each attestor together, in one table.
    fn write_facts(&self, text: &mut String) {
        let mut kinds: Vec<&str> = Vec::new();
        for fact in &self.selectors {
            if !kinds.contains(&fact.kind()) {
                kinds.push(fact.kind());
            }
        }
        let heading = ["SELECTOR", "STRENGTH", "SOURCE"].map(str::to_owned).to_vec();
        let sorted =
            kinds.iter().flat_map(|kind| self.selectors.iter().filter(move |fact| fact.kind() == *kind));
        let rows = sorted
            .map(|fact| [&fact.selector, &fact.strength, &fact.source].map(|cell| plain(cell)).to_vec());
        let table = output::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
        let mut lines = table.lines();
        text.extend(lines.next().map(|heading| format!("{heading}\n")));
        // An empty line between attestors, where there are so many that they are not one glance.
        for kind in &kinds {
            let count = self.selectors.iter().filter(|fact| fact.kind() == *kind).count();
            if kinds.len() > 1 && *kind != kinds[0] {
                text.push('\n');
            }
            text.extend(lines.by_ref().take(count).map(|line| format!("{line}\n")));
        }
    }

    fn write_entries(&self, text: &mut String) {
        if let Some(matches) = &self.matches {
            text.push_str(if matches.is_empty() { "\nno entry matches\n" } else { "\nentries that match\n" });
            for entry in matches {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {}  (entry {})", plain(&entry.spiffe_id), plain(&entry.id));
            }
        }
        let Some(almost) = self.almost.as_ref().filter(|almost| !almost.is_empty()) else { return };
        text.push_str("\nentries that almost match\n");
        for Almost { entry, missing, has } in almost {
            let _ = writeln!(text, "  {}  (entry {})", plain(&entry.spiffe_id), plain(&entry.id));
            for selector in missing {
                let _ = writeln!(text, "    but it is not  {}", plain(selector));
            }
            let shown = &has[..has.len().min(FEW)];
            let more = has.len() - shown.len();
            if !shown.is_empty() {
                let and = if more > 0 { format!(" and {more} more") } else { String::new() };
                let _ = writeln!(text, "    but it is      {}{and}", plain(&shown.join(", ")));
            }
        }
    }

    /// What each attestor took, and why some say nothing.
    fn write_silent(&self, text: &mut String) {
        if self.attestors.is_empty() {
            return;
        }
        text.push_str("\nattestors\n");
        let width = self.attestors.iter().map(|attestor| attestor.name.len()).max().unwrap_or(0);
        for Attestor { name, state, reason, took_us } in &self.attestors {
            let count = self.selectors.iter().filter(|fact| fact.kind() == name).count();
            let says = match (reason, took_us) {
                (Some(reason), _) => format!("{}: {}", plain(state), plain(reason)),
                (None, Some(took)) if *took >= 10_000.0 => {
                    format!("{count} selectors in {:.0} ms", took / 1000.0)
                }
                (None, Some(took)) => format!("{count} selectors in {took:.0} µs"),
                (None, None) => plain(state),
            };
            let _ = writeln!(text, "  {:width$}  {says}", plain(name));
        }
    }
}

impl Fact {
    /// The attestor that it is of.
    fn kind(&self) -> &str {
        self.selector.split(':').next().unwrap_or_default()
    }
}

/// What a process has instead of what an entry asks for may be very much.
const FEW: usize = 4;

const WEAK: &str = "the kernel did not see for this agent what the process executed, so a process that wants to \
    can pretend it; an entry should ask for something stronger as well";

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
    fn many_selectors_stand_together_by_attestor_and_silence_has_a_reason() {
        let fact = |selector: &str, strength: &str| {
            format!(r#"{{"selector":"{selector}","source":"s","strength":"{strength}"}}"#)
        };
        let facts = [
            fact("unix:uid:0", "kernel"),
            fact("docker:label:a:b", "platform"),
            fact("unix:path:/a", "weak"),
        ];
        let json = format!(
            r#"{{"pid":7,"selectors":[{}],"attestors":[{{"name":"unix","state":"on","took_us":41.2}},
            {{"name":"k8s","state":"absent","reason":"it is not configured"}}],"matches":[],
            "almost":[{{"entry":{{"id":"e","spiffe_id":"spiffe://td/a"}},"missing":["unix:uid:7"],"has":["unix:uid:0"]}}]}}"#,
            facts.join(",")
        );
        let text = serde_json::from_str::<Seen>(&json).unwrap().to_text();
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part:?} is not in {text}"));
        assert!(at("unix:uid:0") < at("unix:path:/a") && at("unix:path:/a") < at("docker:label"), "{text}");
        assert!(text.contains("    but it is not  unix:uid:7\n    but it is      unix:uid:0\n"), "{text}");
        assert!(
            text.contains("  unix  2 selectors in 41 µs\n  k8s   absent: it is not configured\n"),
            "{text}"
        );
        assert!(text.contains("\nweak: the kernel did not see"), "{text}");
    }

    #[test]
    fn a_workload_reads_nothing_about_entries() {
        let text =
            serde_json::from_str::<Seen>(r#"{"pid":7,"selectors":[],"notes":["x"]}"#).unwrap().to_text();
        assert!(!text.contains("entr"), "{text}");
        assert!(text.contains("note: x"));
    }
}
