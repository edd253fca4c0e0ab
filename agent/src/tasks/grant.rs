//! A task's grant: the server's signed statement, verified before anything is believed of it.

use registry::objects::Task;
use spiffe::{
    Bundles, Timestamp,
    jwt::{Type, validate_typed},
};

/// Whether an authority of the task's own trust domain signed that exactly this task was granted.
pub(super) fn verify(signed: &str, task: &Task, bundles: &Bundles, now: Timestamp) -> Result<(), String> {
    let trust_domain = task.home.trust_domain();
    let bundle = bundles.get(trust_domain.as_str()).ok_or("there is no bundle of its trust domain")?;
    let claims = validate_typed(Type::Grant, signed, bundle, now)
        .map_err(|error| format!("its grant does not verify: {error}"))?;
    let granted = claims.get("task").cloned().unwrap_or_default();
    let granted: Task =
        serde_json::from_value(granted).map_err(|error| format!("its grant cannot be read: {error}"))?;
    match granted == *task {
        true => Ok(()),
        false => Err("its grant is for another task than the server says".to_owned()),
    }
}
