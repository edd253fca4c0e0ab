//! The operation on what Linux says of a process.

use attestors::cgroups::Cgroups;
use serde::Deserialize;
use serde_json::json;

use super::{Outcome, input};

/// The container by the text of /proc/PID/cgroup. The process's mountinfo is not even read: it is what the
/// process makes it.
pub(super) fn container_info(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input {
        cgroup: String,
    }
    let Input { cgroup } = input::parse(members)?;
    let cgroups = Cgroups::parse(&cgroup).map_err(|unclear| unclear.to_string())?;
    let container = cgroups.container().map_err(|unclear| unclear.to_string())?;
    let pod_uid = container.as_ref().and_then(|container| container.pod_uid.as_ref());
    Ok(json!({
        "container_id": container.as_ref().map_or("", |container| container.id.as_str()),
        "pod_uid": pod_uid.map_or("", |uid| uid.as_str()),
    }))
}
