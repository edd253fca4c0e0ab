//! Facts that were recorded: selectors as they are, what `writ attest record` wrote, and the text of a
//! process's cgroup file, which is read by the attestors' own parser.

use std::path::Path;

use anyhow::{Context as _, Result};
use attestors::{cgroups::Cgroups, selectors};
use serde::Deserialize;
use spiffe::Selector;

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
    if let Some(text) = &facts.cgroup {
        of_cgroups(text, &mut seen)?;
    }
    for selector in &facts.selectors {
        // Nobody wrote down how strong it was, so it is what it is at best on any machine.
        let strength = if selectors::is_weak(selector) { "weak" } else { "kernel" }.to_owned();
        seen.facts.push(Fact { selector: selector.clone(), strength });
    }
    Ok(seen)
}

/// What the kernel's text alone proves: the unit. Who a container is, only its engine can say.
fn of_cgroups(text: &str, seen: &mut Seen) -> Result<()> {
    match Cgroups::parse(text).and_then(|cgroups| cgroups.unit()) {
        Ok(Some(unit)) => {
            let selector = Selector::new("systemd", &format!("id:{}", unit.name()))?;
            seen.facts.push(Fact { selector, strength: "kernel".to_owned() });
        }
        Ok(None) => {}
        Err(unclear) => seen.notes.push(unclear.to_string()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cgroup: &str) -> Seen {
        let facts = Facts { cgroup: Some(cgroup.to_owned()), ..Facts::default() };
        seen(&facts, Path::new("")).unwrap()
    }

    #[test]
    fn the_text_of_a_cgroup_file_says_the_unit_or_why_not() {
        let web = of("0::/system.slice/web.service\n");
        assert_eq!(web.facts[0].selector.as_str(), "systemd:id:web.service");
        assert_eq!(of("0::/\n").facts.len(), 0);
        let unclear = of("0::/../web.service\n");
        assert!(unclear.facts.is_empty() && unclear.notes[0].contains("cgroup namespace"), "{unclear:?}");
    }

    #[test]
    fn a_recording_of_something_else_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), "{}").unwrap();
        let facts = Facts { recording: Some("a.json".into()), ..Facts::default() };
        let error = format!("{:#}", seen(&facts, folder.path()).unwrap_err());
        assert!(error.contains("a.json") && error.contains("writ attest record"), "{error}");
    }
}
