//! What agents call their own version: for operators to see, and believed by nobody. It is in memory
//! alone; whoever is there says it again after a start.

use std::collections::HashMap;

use parking_lot::Mutex;
use registry::Registry;
use spiffe::SpiffeId;

/// The versions of the agents that have said theirs.
#[derive(Debug, Default)]
pub(crate) struct Versions(Mutex<HashMap<SpiffeId, Box<str>>>);

/// The longest that is kept.
const LONGEST: usize = 64;

impl Versions {
    /// Keeps what the agent of `node` says. What is too long, or more than one printable word, it does
    /// not say.
    pub(crate) fn hear(&self, node: &SpiffeId, version: &str, registry: &Registry) {
        if version.is_empty() || version.len() > LONGEST || !version.bytes().all(|b| b.is_ascii_graphic()) {
            return;
        }
        let mut known = self.0.lock();
        if known.get(node).is_none_or(|before| **before != *version) {
            // No more are kept than there are nodes.
            if known.len() >= registry.nodes().len() {
                known.retain(|node, _| registry.node(node).is_some());
            }
            known.insert(node.clone(), version.into());
        }
    }

    /// What the agent of `node` said; nothing if it has not.
    pub(crate) fn of(&self, node: &SpiffeId) -> String {
        self.0.lock().get(node).map(ToString::to_string).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use registry::{LogId, Settings};

    use super::*;

    #[test]
    fn a_version_is_one_short_printable_word() {
        let node: SpiffeId = "spiffe://acme.example/spire/agent/join_token/web-1".parse().unwrap();
        let settings = Settings::new("acme.example".parse().unwrap());
        let registry = Registry::new(settings, LogId("log".to_owned()));
        let versions = Versions::default();
        for odd in ["", "1.0 beta", "1\n2", "\u{1b}[2J", "é", &"9".repeat(LONGEST + 1)] {
            versions.hear(&node, odd, &registry);
            assert_eq!(versions.of(&node), "", "{odd:?}");
        }
        versions.hear(&node, "1.15.3", &registry);
        assert_eq!(versions.of(&node), "1.15.3");
        versions.hear(&node, "1.16.0", &registry);
        assert_eq!(versions.of(&node), "1.16.0", "the newest counts");
    }
}
