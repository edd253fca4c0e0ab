//! `writ.task.v1.Tasks/End`: a process ends a task of its domain.

use bytes::Bytes;
use tonic::Status;

use crate::{Source, WorkloadApi, refusal::Refusal, session::Session, wire};

/// Ends the task that is named, or the asker's only one. When this answers, no call of it is permitted any more.
pub(crate) async fn end_task<S: Source>(
    api: &WorkloadApi<S>,
    session: &Session<S>,
    message: &[u8],
) -> Result<Bytes, Status> {
    let named = wire::end_request(message)?;
    session.line.check().map_err(|_| Refusal::Changed)?;
    let id = api.source.end_task(session.line.peer(), named.as_ref()).await?;
    Ok(wire::end_response(&id))
}
