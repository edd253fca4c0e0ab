//! `writ.task.v1.Tasks/Watch`: a process follows the tasks of its domain.

use bytes::Bytes;
use futures::Stream;
use tonic::Status;

use crate::{Source, WorkloadApi, refusal::Refusal, session::Session, wire};

/// The tasks of the asker's domain at once, and again after each change. An ended one is shown once as such.
pub(crate) fn watch_tasks<S: Source>(
    api: &WorkloadApi<S>,
    session: &Session<S>,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + 'static, Status> {
    session.line.check().map_err(|_| Refusal::Changed)?;
    session.line.lasts();
    let (tasks, line) = (api.source.follow_tasks(session.line.peer()), session.line.clone());
    Ok(futures::stream::unfold((tasks, line), |(mut tasks, line)| async move {
        let now = tasks.recv().await?;
        let answer = match line.check() {
            Ok(()) => Ok(wire::watch_response(now)),
            Err(_) => Err(Refusal::Changed.into()),
        };
        Some((answer, (tasks, line)))
    }))
}
