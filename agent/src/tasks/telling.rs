//! The server is told what became of tasks, until it has acknowledged it. Nothing here waits for that.

use std::{convert::Infallible, sync::Arc, time::Duration};

use registry::decide::task::{HomeChange, To};
use registry::objects::TaskId;
use tokio::time::timeout;
use tonic::Code;

use super::{Home, kept::Untold};

impl Home {
    /// Tells, and tells again, as long as the agent runs.
    pub(crate) async fn tell_server(self: Arc<Self>) -> Infallible {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let batch: Vec<(TaskId, Untold)> =
                self.pending.lock().iter().take(BATCH).map(|(id, untold)| (id.clone(), *untold)).collect();
            if batch.is_empty() {
                self.untold.notified().await;
                continue;
            }
            let changes: Vec<_> = batch.iter().map(|(id, untold)| untold.of(id)).collect();
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

    fn acknowledged(&self, told: &[(TaskId, Untold)]) {
        for (id, untold) in told {
            let mut pending = self.pending.lock();
            if pending.get(id) != Some(untold) {
                continue; // more has happened since
            }
            pending.remove(id);
            drop(pending);
            if untold.ended {
                self.records.settle(id);
            } else if let Some(live) = self.book.get(id)
                && let Err(error) = self.records.put(&live, None)
            {
                tracing::warn!(task = %id, %error, "a suspension will be told once more");
            }
        }
    }
}

impl Untold {
    fn of(&self, id: &TaskId) -> HomeChange {
        let to = if self.ended { To::Ended(self.reason) } else { To::Suspended(self.reason) };
        HomeChange { task: id.clone(), to, at: self.at }
    }
}

/// A task that the server does not know, or that has ended there, needs no telling.
fn is_settled(code: Code) -> bool {
    matches!(code, Code::Ok | Code::NotFound | Code::FailedPrecondition)
}

const BATCH: usize = 500;
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
