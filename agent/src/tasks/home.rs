//! [`Home`]: this node as the home of its tasks, where everything about them meets.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use authz::chain::Standing;
use daemon::DiskError;
use parking_lot::Mutex;
use peer::Watch;
use registry::{
    Key, LogId, Object, Revision,
    objects::{Reason, TaskId, TaskState},
};
use tokio::sync::Notify;

use super::{
    Book, Config, Live,
    fresh::{Head, Heads},
    governance::{Governed, Governing},
    kept::{Records, Untold},
    labels::Labels,
};
use crate::{clock, reactions::task_ended, upstream::Upstream};

/// The tasks of this node with everything that they need.
pub(crate) struct Home {
    /// Which tasks there are.
    pub(crate) book: Book,
    /// The view, as decisions need it.
    pub(crate) governing: Governing,
    /// What domains remember.
    pub(crate) labels: Labels,
    /// What outlives the agent.
    pub(crate) records: Records,
    /// What the operator says.
    pub(crate) config: Config,
    pub(super) upstream: Arc<Upstream>,
    pub(super) watch: Arc<Watch>,
    heads: Mutex<Heads>,
    /// What the server has not been told yet; it is kept on disk too, where that has room.
    pub(super) pending: Mutex<BTreeMap<TaskId, Untold>>,
    pub(super) untold: Notify,
    /// How tasks stood in the view last.
    in_view: Mutex<HashMap<TaskId, TaskState>>,
    standings: OnceLock<Standings>,
}

/// What a task had spent and read before the agent was restarted, as the records of its decisions say.
pub(crate) type Standings = Box<dyn Fn(&TaskId) -> Option<Standing> + Send + Sync>;

impl Home {
    /// The home of what `state` keeps.
    pub(crate) fn open(
        state: &Path,
        config: Config,
        upstream: Arc<Upstream>,
        watch: Arc<Watch>,
    ) -> Result<Self, DiskError> {
        Ok(Self {
            book: Book::default(),
            governing: Governing::default(),
            labels: Labels::open(state)?,
            records: Records::open(state)?,
            config,
            upstream,
            watch,
            heads: Mutex::default(),
            pending: Mutex::default(),
            untold: Notify::new(),
            in_view: Mutex::default(),
            standings: OnceLock::new(),
        })
    }

    /// Who knows what tasks had spent before a restart. Set once, before [`Home::take_up`].
    pub(crate) fn known_by(&self, standings: Standings) {
        let is_first = self.standings.set(standings).is_ok();
        debug_assert!(is_first, "it is set once");
    }

    pub(super) fn standing(&self, id: &TaskId) -> Option<Standing> {
        self.standings.get().and_then(|standings| standings(id))
    }

    /// Of which moment the server's word is that the view has been followed to, by boot time.
    pub(crate) fn as_of(&self) -> Option<Duration> {
        self.heads.lock().as_of()
    }

    /// The server said how new its view is.
    pub(super) fn heard(&self, head: Head) {
        self.heads.lock().answered(head);
    }

    /// The view went on. What it takes away has taken effect when this returns; the rest of what follows is done aside.
    pub(crate) fn follow(self: &Arc<Self>, step: &Governed, at: Option<(&LogId, Revision)>) {
        if !step.is_empty() {
            self.governing.follow(step);
            self.obey(step);
        }
        self.governing.reach(at);
        self.heads.lock().followed(at);
    }

    /// What the view says of tasks that are at home here. A local end wins over a view that has not heard of it.
    fn obey(self: &Arc<Self>, step: &Governed) {
        for key in &step.gone {
            match key {
                Key::Task(id) => {
                    self.in_view.lock().remove(id);
                    task_ended::begin(self, id, Reason::NodeLost);
                }
                Key::Node(_) => {
                    self.all().iter().for_each(|live| task_ended::begin(self, live.id(), Reason::NodeLost))
                }
                _ => {}
            }
        }
        for object in &step.put {
            match object {
                Object::Task(task) => {
                    let before = self.in_view.lock().insert(task.id.clone(), task.state.clone());
                    match &task.state {
                        TaskState::Ended { reason, .. } => task_ended::begin(self, &task.id, *reason),
                        TaskState::Suspended { reason, .. } => drop(self.book.suspend(&task.id, *reason)),
                        // Only what the server had suspended it resumes: it may not have heard of what was done here.
                        TaskState::Active if matches!(before, Some(TaskState::Suspended { .. })) => {
                            self.book.resume(&task.id);
                        }
                        TaskState::Active => {}
                    }
                }
                Object::Node(node) => {
                    let stands = node.stands_in();
                    for live in self.all().iter().filter(|live| live.grant.environment != stands) {
                        task_ended::begin(self, live.id(), Reason::EnvironmentChanged);
                    }
                }
                _ => {}
            }
        }
    }

    /// Suspends a task here, and has the server told: its agent acts suspiciously.
    pub(crate) fn suspend(&self, live: &Live, reason: Reason) -> io::Result<()> {
        if self.book.suspend(live.id(), reason) {
            let untold = Untold { ended: false, reason, at: clock::now() };
            self.tell(live.id(), untold);
            self.records.put(live, Some(untold))?;
        }
        Ok(())
    }

    /// Has the server told, as often as it takes.
    pub(crate) fn tell(&self, id: &TaskId, untold: Untold) {
        self.pending.lock().insert(id.clone(), untold);
        self.untold.notify_one();
    }

    fn all(&self) -> Vec<Arc<Live>> {
        self.book.all()
    }
}
