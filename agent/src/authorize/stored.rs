//! What was written to stores through this node's gates, kept over restarts: a store does not forget.

use std::path::{Path, PathBuf};

use authz::{Stored as Written, labels::StoredLabels};
use daemon::{DiskError, read_private, write_private};
use parking_lot::Mutex;
use registry::scope::{Label, ResourceName};
use serde::{Deserialize, Serialize};

/// The live labels of stores whose label home is this node.
pub(super) struct Stored {
    path: PathBuf,
    labels: Mutex<StoredLabels>,
    /// One write at a time, in order; whether something is in memory that could not be kept.
    writing: tokio::sync::Mutex<bool>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    resource: ResourceName,
    label: Label,
}

impl Stored {
    /// What was kept. One that cannot be read stops the agent: a label is not lost for that.
    pub(super) fn open(dir: &Path) -> Result<Self, DiskError> {
        let path = dir.join(FILE);
        let mut labels = StoredLabels::default();
        if let Some(bytes) = read_private(&path, MOST_BYTES)? {
            let kept: Vec<Kept> = serde_json::from_slice(&bytes).map_err(|error| DiskError::Io {
                action: "read",
                path: path.clone(),
                source: std::io::Error::other(error),
            })?;
            for kept in kept {
                labels.raise(&kept.resource, &kept.label);
            }
        }
        Ok(Self { path, labels: Mutex::new(labels), writing: tokio::sync::Mutex::default() })
    }

    /// What is known of a store's data.
    pub(super) fn of(&self, resource: &ResourceName) -> Label {
        self.labels.lock().of(resource)
    }

    /// Joins a label in, durably: when this returns, whoever reads from the store gets it.
    pub(super) async fn raise(&self, written: &Written) -> Result<(), DiskError> {
        let mut unkept = self.writing.lock().await;
        // In memory first: it counts from now on, even where it cannot be kept.
        let rises = self.labels.lock().raise(&written.resource, &written.label).is_some();
        if !rises && !*unkept {
            return Ok(());
        }
        *unkept = true;
        let kept: Vec<_> = self
            .labels
            .lock()
            .iter()
            .map(|(resource, label)| Kept { resource: resource.clone(), label: label.clone() })
            .collect();
        let json = serde_json::to_vec(&kept).unwrap_or_default();
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write_private(&path, &json)).await;
        written.unwrap_or_else(|error| {
            let source = std::io::Error::other(error);
            Err(DiskError::Io { action: "write", path: self.path.clone(), source })
        })?;
        *unkept = false;
        Ok(())
    }
}

const FILE: &str = "stored.json";
const MOST_BYTES: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_to_a_store_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let secret = Label { confidentiality: 2.try_into().unwrap(), ..Label::default() };
        let notes: ResourceName = "notes".parse().unwrap();
        let stored = Stored::open(dir.path()).unwrap();
        stored.raise(&Written { resource: notes.clone(), label: secret.clone() }).await.unwrap();
        stored.raise(&Written { resource: notes.clone(), label: Label::default() }).await.unwrap();
        let again = Stored::open(dir.path()).unwrap();
        assert_eq!(again.of(&notes), secret);
        std::fs::write(dir.path().join(FILE), "[").unwrap();
        assert!(Stored::open(dir.path()).is_err(), "a label is not forgotten because it cannot be read");
    }
}
