//! Whether a task may do what it asks for: judged here, recorded, and only then permitted.
//!
//! | file | holds |
//! |---|---|
//! | `story` | one question from its client to its permit |
//! | `outcome` | what became of a permitted call, and what its answer raises |
//! | `carried` | the permits that one gate carries, and their end |
//! | `complaints` | what the operator hears of calls that are refused for want of a record |
//! | `records` | what the audit trail says of a decision and of an outcome |
//! | `stored` | what was written to stores, durably |
//! | `standings` | what tasks have spent and read, over a crash of the agent |
//! | `decide` | the same question as a query: no permit, nothing spent |
//!
//! A task's questions are judged one after the other, behind the lock of its chain; those of different chains side by
//! side. What is judged becomes durable in groups.

mod carried;
mod complaints;
mod decide;
mod outcome;
mod records;
mod standings;
mod stored;
mod story;

use std::{
    convert::Infallible,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use daemon::DiskError;
use parking_lot::Mutex;

use self::{carried::Gates, complaints::Complaints, standings::Standings, stored::Stored};
pub(crate) use self::{
    carried::{Carried, Said},
    outcome::How,
    story::{Question, Shown},
};
use crate::{spool::Spool, tasks::Home};

/// Decides for the tasks whose home this node is.
pub(crate) struct Authorizer {
    home: Arc<Home>,
    spool: Spool,
    stored: Stored,
    standings: Arc<Standings>,
    complaints: Complaints,
    gates: Arc<Gates>,
}

impl Authorizer {
    /// Decides for the tasks of `home`. Nothing of a former process is forgotten: what its tasks had spent and read is
    /// read from what it kept and recorded, and calls of which nobody knows what became of them are recorded as such.
    pub(crate) fn open(state: &Path, home: Arc<Home>, spool: Spool) -> Result<Arc<Self>, DiskError> {
        let dir = state.join("authorize");
        daemon::private_dir(&dir)?;
        let (standings, former) = Standings::open(&dir, &home, &spool)?;
        let authorizer = Arc::new(Self {
            stored: Stored::open(&dir)?,
            gates: Arc::default(),
            complaints: Complaints::default(),
            standings,
            spool,
            home: home.clone(),
        });
        home.known_by(Box::new(move |task| former.get(task).cloned()));
        let gates = Arc::downgrade(&authorizer.gates);
        home.book.when_ended(vec![Box::new(move |ended| Gates::voiding(&gates, ended))]);
        Ok(authorizer)
    }

    /// Keeps what tasks have spent, and voids what their changes make void, for as long as this is polled.
    pub(crate) async fn work(self: &Arc<Self>) -> Infallible {
        tokio::select! {
            never = self.keep_standings() => never,
            never = self.void_what_changes() => never,
        }
    }

    /// A gate's permits, from the beginning of its session to its end.
    pub(crate) fn carried(&self) -> (Arc<Carried>, tokio::sync::mpsc::UnboundedReceiver<Said>) {
        self.gates.open()
    }

    async fn keep_standings(self: &Arc<Self>) -> Infallible {
        let mut end = self.spool.end();
        // What a former agent kept is all that is known of tasks that are not taken up yet: it stays until they are.
        self.home.taken_up().await;
        loop {
            let is_closed = self.home.closings.is_empty();
            let changed = tokio::select! {
                changed = end.changed() => changed.map(|()| true),
                () = tokio::time::sleep(KEPT_EVERY), if !is_closed => Ok(false),
            };
            // An error means that the spool's writer has ended, and then nothing is permitted any more.
            let Ok(changed) = changed else { return std::future::pending().await };
            if changed {
                self.keep_standings_once().await;
            }
            self.standings.close_ended(&self.home, &self.spool);
            tokio::time::sleep(KEPT_EVERY).await;
        }
    }

    async fn keep_standings_once(self: &Arc<Self>) {
        let keeping = self.clone();
        let keep = move || keeping.standings.keep(&keeping.home, &keeping.spool);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(keep).await {
            tracing::error!(%error, "what tasks have spent is not kept; if the agent ends now, they are suspended");
        }
    }

    /// A suspended task's permits are void as well; gates are told as soon as something changes.
    async fn void_what_changes(&self) -> Infallible {
        let mut changes = self.home.book.changes();
        while changes.changed().await.is_ok() {
            changes.borrow_and_update();
            self.gates.void_the_void();
        }
        std::future::pending().await
    }
}

/// What a session is known by, so that it ends where it began.
type Sessions = Mutex<Vec<Weak<Carried>>>;

const KEPT_EVERY: Duration = Duration::from_millis(500);
