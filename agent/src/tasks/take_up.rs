//! A restarted agent takes its tasks up again, where it can pin the very same domain; the others end.

use std::sync::Arc;

use authz::chain::{Standing, State};
use registry::objects::{Reason, TaskState};

use super::{
    Home,
    book::Entered,
    grant,
    kept::{Kept, Records, Untold},
};
use crate::clock;

impl Home {
    /// Takes up what a former agent left, once the view is known. Until then no process has a task here.
    pub(crate) async fn take_up(self: Arc<Self>) {
        self.take_up_all().await;
        self.taken_up.send_replace(true);
    }

    /// Returns when that is done. Until then nobody knows what all those tasks had spent but what was kept.
    pub(crate) async fn taken_up(&self) {
        // The sender is here.
        let _ = self.taken_up.subscribe().wait_for(|done| *done).await;
    }

    async fn take_up_all(self: &Arc<Self>) {
        let kept = match self.records.load() {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%error, "the records of tasks cannot be read; every task of before ends");
                return;
            }
        };
        if kept.is_empty() {
            return;
        }
        let mut at = self.governing.at();
        // An error means that the agent is ending.
        let _ = at.wait_for(Option::is_some).await;
        for kept in kept {
            let id = kept.grant.id.clone();
            let cgroup = kept.cgroup();
            if kept.spent {
                match cgroup {
                    Some(cgroup) => self.book.spent(cgroup),
                    None => self.records.remove(&id),
                }
                continue;
            }
            match kept.untold {
                Some(untold) if untold.ended => {
                    cgroup.into_iter().for_each(|cgroup| self.book.spent(cgroup));
                    self.tell_end(&kept.grant, untold);
                }
                _ => {
                    let untold = kept.untold;
                    // INVARIANT: nothing leaves `ended`, also where its record is all that reached the disk.
                    let resumed = match self.closings.has(id.as_str()) {
                        true => Err("its end is on record".to_owned()),
                        false => self.resume_kept(kept.clone()),
                    };
                    match resumed {
                        Ok(suspended) => {
                            untold.or(suspended).iter().for_each(|untold| self.tell(&id, *untold));
                        }
                        Err(why) => {
                            tracing::warn!(task = %id, why, "a task does not outlive the restart of its agent");
                            cgroup.into_iter().for_each(|cgroup| self.book.spent(cgroup));
                            self.end_kept(kept);
                        }
                    }
                }
            }
        }
    }

    /// A task is not taken up again: it has ended, as if that had been here.
    fn end_kept(&self, kept: Kept) {
        let (grant, ended) = (kept.grant.clone(), Untold::ended(Reason::AgentRestarted, clock::now()));
        if let Err(error) = self.records.end(kept, ended) {
            tracing::error!(task = %grant.id, %error, "the end of a task was not kept; the server is told nevertheless");
        }
        self.tell_end(&grant, ended);
    }

    /// What is given back the server does not know yet: nobody knows what the task had spent, so it waits for somebody who
    /// lets it go on.
    fn resume_kept(self: &Arc<Self>, kept: Kept) -> Result<Option<Untold>, String> {
        let domain = self.records.domain(&kept).ok_or("its processes are not the same any more")?;
        let view = self.governing.now();
        let in_view = view.task(&kept.grant.id).ok_or("the server does not know it any more")?;
        let now = clock::both();
        grant::verify(&kept.signed, &kept.grant, &self.upstream.bundles(), now.wall)?;
        let known = self.standing(&kept.grant.id).unwrap_or_default();
        let mut suspended = None;
        let state = match in_view.state {
            TaskState::Active => match (kept.untold, known.state) {
                (Some(untold), _) => State::Suspended(untold.reason),
                (None, State::Suspended(reason @ Reason::AgentRestarted)) => {
                    suspended = Some(Untold { ended: false, reason, at: now.wall });
                    State::Suspended(reason)
                }
                (None, _) => State::Active,
            },
            TaskState::Suspended { reason, .. } => State::Suspended(reason),
            TaskState::Ended { .. } => return Err("the server has ended it".to_owned()),
        };
        let label = self
            .labels
            .of_domain(&domain)
            .map_err(|error| format!("its processes cannot be examined: {error}"))?;
        let standing = Standing { label: known.label.join(&label), state, continued: true, ..known };
        let entered = Entered {
            place: Records::place(&kept),
            spiffe_id: kept.grant.spiffe_id().map_err(|error| error.to_string())?,
            grant: Arc::new(kept.grant),
            signed: kept.signed.into(),
            domain,
            measured: kept.measured,
            standing,
        };
        let live = self.book.enter(entered, now).map_err(|denial| denial.explanation)?;
        self.obey_what_came_meanwhile(&live);
        tracing::info!(task = %live.id(), "took up a task again");
        self.outlive(&live);
        Ok(suspended)
    }
}
