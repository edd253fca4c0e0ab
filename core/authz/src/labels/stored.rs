//! What is known of the data in stores: the join of everything that was written there through a gate.

use std::collections::BTreeMap;

use registry::scope::{Label, ResourceName};

/// The live labels of stateful resources whose label home is this node. A write joins its task's label in
/// before it is forwarded; a read joins the result into its task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredLabels(BTreeMap<ResourceName, Label>);

impl StoredLabels {
    /// What is known of a resource's data, besides what its owner says.
    pub fn of(&self, resource: &ResourceName) -> Label {
        self.0.get(resource).cloned().unwrap_or_default()
    }

    /// Joins a label in; the new one if it rose.
    pub fn raise(&mut self, resource: &ResourceName, label: &Label) -> Option<&Label> {
        let stored = self.0.entry(resource.clone()).or_default();
        if label.is_within(stored) {
            return None;
        }
        *stored = stored.join(label);
        Some(stored)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, &Label)> {
        self.0.iter()
    }
}
