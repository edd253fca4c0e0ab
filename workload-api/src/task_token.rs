//! `writ.task.v1.Tasks/Token`: a transaction token of a task of the asker's domain.

use bytes::Bytes;
use tonic::Status;

use crate::{Source, WorkloadApi, refusal::Refusal, session::Session, wire};

/// A token of the task that is named, or of the asker's only one.
pub(crate) async fn task_token<S: Source>(
    api: &WorkloadApi<S>,
    session: &Session<S>,
    message: &[u8],
) -> Result<Bytes, Status> {
    let named = wire::token_request(message)?;
    let mut caller = session.identify(&api.source, &api.queue, None).await?; // still the actor's?
    if api.source.is_outdated(&caller) {
        caller = session.identify(&api.source, &api.queue, Some(&caller)).await?;
    }
    let token = api.source.task_token(session.line.peer(), &caller, named.as_ref()).await?;
    session.line.check().map_err(|_| Refusal::Changed)?;
    Ok(wire::token_response(token))
}
