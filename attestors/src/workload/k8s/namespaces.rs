//! [`Namespace`]: the labels of one.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{facts, follow::Object, gathered::Revised};
use crate::{Evidence, Fact};

/// The labels of a namespace, as facts.
#[derive(Debug)]
pub(super) struct Namespace {
    facts: Vec<Fact>,
    unusable: usize,
}

impl Namespace {
    /// Adds its labels.
    pub(super) fn tell(&self, evidence: &mut Evidence) {
        evidence.facts.extend_from_slice(&self.facts);
        if self.unusable > 0 {
            evidence.note(format!("{} labels of its namespace make no selectors", self.unusable));
        }
    }
}

impl Revised for Namespace {
    fn is_contradicted_by(&self, newer: &Self) -> bool {
        self.facts != newer.facts
    }
}

/// A namespace as Kubernetes writes it, of what is read.
#[derive(Deserialize)]
pub(super) struct Written {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    labels: Option<BTreeMap<String, String>>,
}

impl Object for Namespace {
    type Written = Written;

    fn key(written: &Written) -> &str {
        &written.metadata.name
    }

    fn of(written: Written) -> Option<Self> {
        let labels = written.metadata.labels.unwrap_or_default();
        let mut unusable = 0;
        let values = labels.iter().map(|(key, value)| format!("ns-label:{key}:{value}"));
        let facts = facts(values, "label of its namespace, by Kubernetes", &mut unusable);
        Some(Self { facts, unusable })
    }
}
