//! What the audit trail says of tasks.

use audit::{Kind, Labels, Record};
use registry::{
    objects::{Reason, Task},
    scope::Label,
};
use spiffe::Timestamp;

/// A record about a task.
pub(crate) fn of(
    kind: Kind,
    task: &Task,
    reason: Option<Reason>,
    label: Option<&Label>,
    time: Timestamp,
) -> Record {
    Record {
        time,
        kind,
        chain: Some(task.root.to_string()),
        task: Some(task.id.to_string()),
        tenant: Some(task.tenant.to_string()),
        actor: Some(task.actor.to_string()),
        mandate: Some(format!("{}@{}", task.mandate, task.mandate_version)),
        spiffe_id: task.spiffe_id().ok().map(|id| id.to_string()),
        labels_out: label.map(labels),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        ..Record::default()
    }
}

fn labels(label: &Label) -> Labels {
    Labels {
        confidentiality: label.confidentiality.into(),
        categories: label.categories.iter().map(ToString::to_string).collect(),
        sources: label.sources.iter().map(ToString::to_string).collect(),
    }
}
