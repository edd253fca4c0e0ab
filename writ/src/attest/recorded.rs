//! Facts that were recorded: selectors as they are, or what `writ attest record` wrote.

use std::path::Path;

use anyhow::{Context as _, Result};
use attestors::selectors;
use serde::Deserialize;

use super::{
    file::{Facts, bounded},
    judge::{Fact, Seen},
};

const LONGEST_RECORDING: u64 = 4 * 1024 * 1024;

/// What `writ explain --output json` prints, as far as it is of use here.
#[derive(Deserialize)]
struct Recording {
    selectors: Vec<Fact>,
    #[serde(default)]
    notes: Vec<String>,
}

/// What the recorded facts say of a process; files lie beside the test file.
pub(crate) fn seen(facts: &Facts, beside: &Path) -> Result<Seen> {
    let mut seen = Seen::default();
    if let Some(name) = &facts.recording {
        let path = beside.join(name);
        let text = bounded(&path, LONGEST_RECORDING)?;
        let recording: Recording = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is not what `writ attest record` or `writ explain --output json` prints",
                path.display()
            )
        })?;
        seen.facts = recording.selectors;
        seen.notes = recording.notes;
    }
    for selector in &facts.selectors {
        // Nobody wrote down how strong it was, so it is what it is at best on any machine.
        let strength = if selectors::is_weak(selector) { "weak" } else { "kernel" }.to_owned();
        seen.facts.push(Fact { selector: selector.clone(), strength });
    }
    Ok(seen)
}
