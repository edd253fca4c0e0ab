//! `writ.explain.v1.Explain`: a process asks what the agent sees of it, or of another one of its user.

use bytes::Bytes;
use tonic::Status;

use crate::{NoExplanation, Source, WorkloadApi, refusal::Refusal, session::Session, wire};

/// Explains the asker itself, or the process that it names. Unlike an identity it is never waited for.
pub(crate) async fn explain<S: Source>(
    api: &WorkloadApi<S>,
    session: &Session<S>,
    message: &[u8],
) -> Result<Bytes, Status> {
    let pid = match wire::explain_request(message).ok_or(Refusal::Unreadable)? {
        0 => None,
        pid => Some(u32::try_from(pid).map_err(|_| Refusal::Unreadable)?),
    };
    let asker = session.line.peer();
    session.line.check().map_err(|_| Refusal::Changed)?;
    let _turn = api.queue.turn(session.uid(), asker.process()).await;
    match api.source.explain(asker, pid).await {
        Ok(json) => {
            session.line.check().map_err(|_| Refusal::Changed)?;
            Ok(wire::explain_response(json))
        }
        Err(NoExplanation::NotYours(pid) | NoExplanation::Unreadable(pid, _)) => {
            Err(Refusal::NotYours(pid).into())
        }
        Err(NoExplanation::Failed(reason)) => {
            tracing::warn!(pid = asker.pid(), reason, "a process could not be explained");
            Err(Refusal::NotIdentified.into())
        }
    }
}
