//! `writ.task.v1.Tasks/Begin`: a process begins a piece of work.

use bytes::Bytes;
use tonic::Status;

use crate::{Source, WorkloadApi, refusal::Refusal, session::Session, wire};

/// Begins a task for the asker, or from inside one a child of it.
pub(crate) async fn begin_task<S: Source>(
    api: &WorkloadApi<S>,
    session: &Session<S>,
    message: &[u8],
) -> Result<Bytes, Status> {
    let wish = wire::begin_request(message)?;
    let mut caller = session.identify(&api.source, &api.queue, None).await?; // who is asking
    if api.source.is_outdated(&caller) {
        caller = session.identify(&api.source, &api.queue, Some(&caller)).await?;
    }
    let task = api.source.begin_task(session.line.peer(), &caller, wish).await?;
    session.line.check().map_err(|_| Refusal::Changed)?;
    Ok(wire::begin_response(task))
}
