//! [`Home`]: this node as the home of its tasks, where everything about them meets.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use attestors::workload::launch::Launches;
use audit::Kind;
use authz::chain::Standing;
use daemon::DiskError;
use parking_lot::Mutex;
use peer::Watch;
use registry::{
    Key, LogId, Object, Revision,
    objects::{Entry, EntryId, Reason, Task, TaskId, TaskState},
    scope::Label,
};
use tokio::sync::{Notify, watch};

use super::{
    Book, Config, Live,
    closings::Closings,
    domain::Place,
    fresh::{Head, Heads},
    governance::{Governed, Governing},
    kept::{Records, Untold},
    keys::Keys,
    labels::Labels,
    record,
    telling::Word,
};
use crate::{
    clock,
    reactions::task_ended,
    spool::{Spool, Unrecorded},
    upstream::Upstream,
};

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
    /// The keys of tenants.
    pub(crate) keys: Keys,
    /// What the operator says.
    pub(crate) config: Config,
    /// The commands that this agent launched.
    pub(super) launches: Arc<Launches>,
    /// Where tasks are beginning at this moment.
    pub(super) begins: Mutex<HashSet<Place>>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) watch: Arc<Watch>,
    heads: watch::Sender<Heads>,
    /// What the server has not been told yet; it is kept on disk too, where that has room.
    pub(super) pending: Mutex<BTreeMap<TaskId, Word>>,
    pub(super) untold: Notify,
    /// How tasks stood in the view last.
    in_view: Mutex<HashMap<TaskId, TaskState>>,
    /// Tasks that have ended and are not closed.
    pub(crate) closings: Arc<Closings>,
    standings: OnceLock<Standings>,
    spool: OnceLock<Spool>,
    /// Whether the tasks of a former agent are taken up, those that can be.
    pub(super) taken_up: watch::Sender<bool>,
}

/// What a task had spent and read before the agent was restarted, as the records of its decisions say.
pub(crate) type Standings = Box<dyn Fn(&TaskId) -> Option<Standing> + Send + Sync>;

impl Home {
    /// The home of what `state` keeps.
    pub(crate) fn open(
        state: &Path,
        config: Config,
        launches: Arc<Launches>,
        upstream: Arc<Upstream>,
        watch: Arc<Watch>,
    ) -> Result<Self, DiskError> {
        Ok(Self {
            book: Book::default(),
            governing: Governing::default(),
            labels: Labels::open(state)?,
            records: Records::open(state)?,
            keys: Keys::of(upstream.clone()),
            config,
            launches,
            begins: Mutex::default(),
            upstream,
            watch,
            heads: watch::Sender::default(),
            pending: Mutex::default(),
            untold: Notify::new(),
            in_view: Mutex::default(),
            closings: Arc::default(),
            standings: OnceLock::new(),
            spool: OnceLock::new(),
            taken_up: watch::Sender::default(),
        })
    }

    /// Who knows what tasks had spent before a restart. Set once, before [`Home::take_up`].
    pub(crate) fn known_by(&self, standings: Standings) {
        let is_first = self.standings.set(standings).is_ok();
        debug_assert!(is_first, "it is set once");
    }

    /// Where the audit records of this node go. Set once, before any task begins.
    pub(crate) fn record_to(&self, spool: Spool) {
        let is_first = self.spool.set(spool).is_ok();
        debug_assert!(is_first, "it is set once");
    }

    /// Records what gives authority; it may be given only if this succeeds.
    pub(super) async fn record(&self, kind: Kind, task: &Task, label: &Label) -> Result<(), Unrecorded> {
        match self.spool.get() {
            Some(spool) => {
                spool.record(record::of(kind, task, None, Some(label), clock::now())).await.map(drop)
            }
            None => Err(Unrecorded::Nameless),
        }
    }

    /// A task has ended, and nothing waits for this: it is recorded, unless a former agent did that, and told to the server
    /// as often as it takes.
    pub(crate) fn tell_end(&self, task: &Task, untold: Untold) {
        if self.closings.has(task.id.as_str()) {
            return self.tell(&task.id, untold);
        }
        let record = record::of(Kind::TaskEnd, task, Some(untold.reason), None, clock::now());
        if let Some(spool) = self.spool.get() {
            spool.note(record.clone());
        }
        self.tell(&task.id, untold);
        self.closings.ended(record);
    }

    pub(super) fn standing(&self, id: &TaskId) -> Option<Standing> {
        self.standings.get().and_then(|standings| standings(id))
    }

    /// Of which moment the server's word is that the view has been followed to, by boot time.
    pub(crate) fn as_of(&self) -> Option<Duration> {
        self.heads.borrow().as_of()
    }

    /// The server said how new its view is.
    pub(super) fn heard(&self, head: Head) {
        self.heads.send_modify(|heads| heads.answered(head));
    }

    /// Waits until the view is known to be of this moment (boot time) or a later one.
    pub(super) async fn reached(&self, moment: Duration) {
        let mut heads = self.heads.subscribe();
        // An error is impossible: the sender is here.
        let _ = heads.wait_for(|heads| heads.as_of() >= Some(moment)).await;
    }

    /// The view went on. What it takes away has taken effect when this returns; the rest of what follows is done aside.
    pub(crate) fn follow(self: &Arc<Self>, step: &Governed, at: Option<(&LogId, Revision)>) {
        if !step.is_empty() {
            self.governing.follow(step);
            self.obey(step);
        }
        self.governing.reach(at);
        self.heads.send_modify(|heads| heads.followed(at));
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

    /// What the view came to say of a task while it was being entered, when nobody could be told yet.
    pub(super) fn obey_what_came_meanwhile(self: &Arc<Self>, live: &Live) {
        // INVARIANT: the view is changed before tasks are told, so what they were not told is in it by now.
        match self.governing.now().task(live.id()).map(|task| &task.state) {
            Some(TaskState::Active) => {}
            Some(TaskState::Suspended { reason, .. }) => drop(self.book.suspend(live.id(), *reason)),
            Some(TaskState::Ended { reason, .. }) => task_ended::begin(self, live.id(), *reason),
            None => task_ended::begin(self, live.id(), Reason::NodeLost),
        }
    }

    /// What the view says of entries: a task whose processes would not be the actor's any more ends.
    pub(crate) fn follow_entries(self: &Arc<Self>, put: &[Arc<Entry>], gone: &[EntryId]) {
        for live in self.all() {
            let measured = &live.measured;
            let is_gone = gone.contains(&measured.entry);
            let now = put.iter().find(|entry| entry.id == measured.entry);
            let differs = now.is_some_and(|entry| {
                entry.selectors != measured.selectors || entry.spiffe_id != live.grant.actor
            });
            if is_gone || differs {
                task_ended::begin(self, live.id(), Reason::MeasurementChanged);
            }
        }
    }

    /// Has the server told, as often as it takes.
    pub(crate) fn tell(&self, id: &TaskId, untold: Untold) {
        self.pending.lock().insert(id.clone(), Word::Changed(untold));
        self.untold.notify_one();
    }

    /// The server is told that a task is closed.
    pub(crate) fn tell_close(&self, task: &str) {
        let Ok(id) = task.parse() else { return self.closings.forget(task) };
        self.pending.lock().insert(id, Word::Closed(clock::now()));
        self.untold.notify_one();
    }

    /// Whether the server has something to hear of this task.
    pub(crate) fn is_untold(&self, id: &TaskId) -> bool {
        self.pending.lock().contains_key(id)
    }

    pub(super) fn all(&self) -> Vec<Arc<Live>> {
        self.book.all()
    }
}
