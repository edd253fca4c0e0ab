//! A task has ended, whoever noticed it: it said so, its time is over, its processes are gone or changed, the server or
//! the task above it says so.
//!
//! What takes authority away comes first and waits for nothing, neither a disk nor the server.

use std::{sync::Arc, time::Duration};

use registry::objects::{Reason, TaskId};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    clock,
    tasks::{Live, home::Home, kept::Untold},
};

/// Ends a task and all below it. When this returns, no call of them is permitted on this node, and every gateway that
/// carried one has said so, or has been cut off. Ending what has ended does nothing.
pub(crate) async fn task_ended(home: &Arc<Home>, id: &TaskId, reason: Reason) {
    // 1. From here on nobody is permitted anything: chains are closed, children first; watches say so, keys are wiped.
    let closed = home.book.close(id, reason);
    finish(home, closed.tasks, closed.voiding, reason).await;
}

/// The same for whoever cannot wait: the first step is done when this returns, the others follow.
pub(crate) fn begin(home: &Arc<Home>, id: &TaskId, reason: Reason) {
    let closed = home.book.close(id, reason);
    if closed.tasks.is_empty() {
        return;
    }
    let home = home.clone();
    tokio::spawn(async move { finish(&home, closed.tasks, closed.voiding, reason).await });
}

async fn finish(
    home: &Arc<Home>,
    closed: Vec<Arc<Live>>,
    voiding: Vec<crate::tasks::book::Voiding>,
    reason: Reason,
) {
    if closed.is_empty() {
        return;
    }
    // 2. Permits that are out are void; those who carry them stop what they forward.
    for voiding in voiding {
        if timeout(VOIDED_WITHIN, voiding).await.is_err() {
            tracing::warn!("a gateway did not say in time that it stopped what it forwards");
        }
    }
    // 3. What the processes of a cgroup have open ends, and where the operator says so the processes too; then the end is
    //    kept on disk, until the server knows. A full disk holds up nothing.
    let ended: Vec<_> = closed
        .iter()
        .map(|live| (live.clone(), Untold::ended(why(&closed, live, reason), clock::now())))
        .collect();
    let (aside, kept) = (home.clone(), ended.clone());
    let work = move || {
        kept.iter().for_each(|(live, _)| cut(&aside, live));
        kept.iter().for_each(|(live, untold)| keep(&aside, live, *untold));
    };
    // An error means that the runtime is ending, and with it the agent.
    let _ = spawn_blocking(work).await;
    // 4. It is recorded, and told to the server as often as it takes.
    for (live, untold) in ended {
        tracing::info!(task = %live.id(), reason = untold.reason.as_str(), "a task ended");
        home.tell_end(&live.grant, untold);
    }
    // 5. Domains keep their labels; what is gone with its processes is forgotten.
    home.book.forget_cgroups();
    home.labels.forget_the_dead();
}

/// The last one closed is the one that ended for this reason; those below it ended with it.
fn why(closed: &[Arc<Live>], live: &Arc<Live>, reason: Reason) -> Reason {
    let is_it = closed.last().is_some_and(|last| Arc::ptr_eq(last, live));
    if is_it { reason } else { Reason::Ancestor }
}

fn keep(home: &Home, live: &Live, untold: Untold) {
    if let Err(error) = home.records.put(live, Some(untold)) {
        tracing::error!(task = %live.id(), %error, "the end of a task was not kept; the server is told nevertheless");
    }
}

/// Ends the connections of a cgroup's processes: one that was opened with the task's SVID would outlive it.
fn cut(home: &Home, live: &Live) {
    let Some(cgroup) = live.domain.as_cgroup() else { return };
    if home.config.kill_domain {
        if let Err(error) = cgroup.kill() {
            tracing::warn!(cgroup = cgroup.path(), %error, "the processes of an ended task could not be killed");
        }
        return;
    }
    // Twice, for what was being opened meanwhile.
    for _ in 0..2 {
        for peer in live.domain.processes() {
            match peer.cut_connections() {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(task = %live.id(), pid = peer.pid(), count, "shut down connections")
                }
                Err(error) => {
                    tracing::warn!(pid = peer.pid(), %error, "connections of an ended task may be open still")
                }
            }
        }
    }
}

/// How long a gateway has to stop forwarding before the end goes on without its word.
const VOIDED_WITHIN: Duration = Duration::from_millis(500);
