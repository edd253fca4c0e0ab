//! The server is told what became of tasks, until it has acknowledged it. Nothing here waits for that.

use std::{convert::Infallible, sync::Arc, time::Duration};

use registry::decide::task::{HomeChange, To};
use registry::objects::TaskId;
use spiffe::Timestamp;
use tokio::time::timeout;
use tonic::Code;

use super::{Home, kept::Untold};

/// What the server has to hear of a task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Word {
    /// It was suspended, or has ended.
    Changed(Untold),
    /// Nothing of it is open any more, since then.
    Closed(Timestamp),
}

impl Home {
    /// Tells, and tells again, as long as the agent runs.
    pub(crate) async fn tell_server(self: Arc<Self>) -> Infallible {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let batch: Vec<(TaskId, Word)> =
                self.pending.lock().iter().take(BATCH).map(|(id, word)| (id.clone(), *word)).collect();
            if batch.is_empty() {
                self.untold.notified().await;
                continue;
            }
            let changes: Vec<_> = batch.iter().map(|(id, word)| word.of(id)).collect();
            let told = self.upstream.ask_about_tasks(|mut client| {
                let changes = changes.clone();
                async move { client.change(&changes).await }
            });
            let done = match told.await {
                Ok(codes) => {
                    let done: Vec<_> = batch
                        .iter()
                        .zip(codes)
                        .filter(|(_, code)| is_settled(*code))
                        .map(|(one, _)| one.clone())
                        .collect();
                    self.acknowledged(&done);
                    done.len() == batch.len()
                }
                Err(error) => {
                    tracing::debug!(%error, "the server was not told what became of tasks");
                    false
                }
            };
            if done {
                pause = SHORTEST_PAUSE;
                continue;
            }
            // What ends meanwhile is told at once.
            let _ = timeout(pause, self.untold.notified()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn acknowledged(&self, told: &[(TaskId, Word)]) {
        for (id, word) in told {
            let mut pending = self.pending.lock();
            if pending.get(id) != Some(word) {
                continue; // more has happened since
            }
            pending.remove(id);
            drop(pending);
            match word {
                Word::Closed(_) => self.closings.forget(id.as_str()),
                Word::Changed(untold) if untold.ended => self.records.settle(id),
                Word::Changed(_) => {
                    if let Some(live) = self.book.get(id)
                        && let Err(error) = self.records.put(&live, None)
                    {
                        tracing::warn!(task = %id, %error, "a suspension will be told once more");
                    }
                }
            }
        }
    }
}

impl Word {
    fn of(&self, id: &TaskId) -> HomeChange {
        let (to, at) = match self {
            Self::Changed(Untold { ended: true, reason, at }) => (To::Ended(*reason), *at),
            Self::Changed(Untold { ended: false, reason, at }) => (To::Suspended(*reason), *at),
            Self::Closed(at) => (To::Closed, *at),
        };
        HomeChange { task: id.clone(), to, at }
    }
}

/// A task that the server does not know, or that has ended there, needs no telling.
fn is_settled(code: Code) -> bool {
    matches!(code, Code::Ok | Code::NotFound | Code::FailedPrecondition)
}

const BATCH: usize = 500;
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
