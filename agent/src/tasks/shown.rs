//! Tasks as their own processes see them.

use std::sync::Arc;

use authz::chain::State;
use peer::Peer;
use registry::{
    Object,
    objects::{Task, TaskState},
};
use tokio::sync::mpsc;
use workload_api::{NoTask, TaskShown, TaskToken};

use super::{Home, Live, book::Which};
use crate::clock;

/// A task as it stands here, which may be ahead of what the server knows.
pub(crate) fn shown(live: &Live) -> TaskShown {
    let at = clock::now();
    let state = match *live.state().borrow() {
        State::Active => TaskState::Active,
        State::Suspended(reason) => TaskState::Suspended { reason, at },
        State::Ended(reason) => TaskState::Ended { reason, at, closed: false },
    };
    let task = Task { state, ..Task::clone(&live.grant) };
    TaskShown { id: live.id().clone(), spiffe_id: live.spiffe_id.clone(), json: Object::from(task).to_json() }
}

/// The tasks of a process's domain, at once and after each change; those that have ended once more, as such.
pub(crate) fn follow(home: &Arc<Home>, peer: &Arc<Peer>) -> mpsc::Receiver<Vec<TaskShown>> {
    let (told, follower) = mpsc::channel(1);
    let (home, peer) = (home.clone(), peer.clone());
    tokio::spawn(async move {
        let mut changes = home.book.changes();
        let (mut known, mut last) = (Vec::<Arc<Live>>::new(), None);
        loop {
            changes.mark_unchanged();
            let now = home.book.of(&peer);
            let ended = known.iter().filter(|live| live.is_ended());
            let ids = |live: &Arc<Live>| (live.id().clone(), *live.state().borrow());
            let all: Vec<_> = ended.chain(now.iter()).cloned().collect();
            let state: Vec<_> = all.iter().map(ids).collect();
            known = now;
            if last.as_ref() != Some(&state) {
                if told.send(all.iter().map(|live| shown(live)).collect()).await.is_err() {
                    return;
                }
                last = Some(state);
            }
            tokio::select! {
                () = told.closed() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    });
    follower
}

impl Home {
    /// A transaction token of a task that may act.
    pub(crate) async fn token(&self, live: &Live) -> Result<TaskToken, NoTask> {
        if !live.is_active() {
            return Err(NoTask::Precondition(format!("task {} may not act", live.id())));
        }
        let made = self.upstream.ask_about_tasks(|mut client| async move { client.token(live.id()).await });
        let made = made.await.map_err(|error| {
            tracing::warn!(task = %live.id(), %error, "no transaction token came");
            NoTask::Unavailable("the server cannot be asked for a token now; try again".to_owned())
        })?;
        match live.is_active() {
            true => Ok(TaskToken { token: made.token, expires_at: made.expires_at }),
            false => Err(NoTask::Precondition(format!("task {} ended meanwhile", live.id()))),
        }
    }
}

impl From<Which> for NoTask {
    fn from(which: Which) -> Self {
        let says = which.to_string();
        match which {
            Which::None | Which::NotYours(_) => Self::NotFound(says),
            Which::Several(_) => Self::Precondition(says),
        }
    }
}
