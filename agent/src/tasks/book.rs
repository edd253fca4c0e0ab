//! [`Book`]: which tasks this node is the home of, and whose a process is.
//!
//! A process belongs to the tasks of its own thread group, and then to those of the innermost cgroup around it that ever
//! held a task. No further out: whoever was started as a narrower task does not get the wider one's authority when it
//! ends.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use authz::{
    Chain, Denial, Now,
    chain::{Standing, State},
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use peer::{Peer, Process, launch::Cgroup};
use registry::objects::{Reason, Task, TaskId};
use spiffe::SpiffeId;
use tokio::sync::watch;

use super::{
    Domain, Live,
    domain::Place,
    live::{Credential, Measured},
};

/// The tasks of this node that have not ended.
#[derive(Default)]
pub(crate) struct Book {
    inner: Mutex<Inner>,
    changes: Changes,
    hooks: OnceLock<Vec<Hook>>,
}

/// Called when tasks have ended, children first, before anything else happens: nobody is permitted anything for them
/// any more. The call must not wait; what it gives back is awaited, for a bounded time, before the end counts as done.
pub(crate) type Hook = Box<dyn Fn(&[Arc<Live>]) -> Voiding + Send + Sync>;
/// Done when whoever carries permits of ended tasks has stopped.
pub(crate) type Voiding = BoxFuture<'static, ()>;

/// What a close has done, and what is under way.
#[derive(Default)]
pub(crate) struct Closed {
    /// The tasks that ended by it, children first.
    pub(crate) tasks: Vec<Arc<Live>>,
    /// What the hooks gave back.
    pub(crate) voiding: Vec<Voiding>,
}

struct Changes(watch::Sender<u64>);

#[derive(Default)]
struct Inner {
    tasks: HashMap<TaskId, Arc<Live>>,
    of_process: HashMap<Process, Vec<Arc<Live>>>,
    /// By path. One whose tasks have ended stays for as long as the cgroup does.
    of_cgroup: HashMap<String, Slot>,
}

struct Slot {
    cgroup: Cgroup,
    tasks: Vec<Arc<Live>>,
}

/// A task that is to be entered, with everything that was verified of it.
pub(crate) struct Entered {
    /// What the server granted.
    pub(crate) grant: Arc<Task>,
    /// The same, as it signed it.
    pub(crate) signed: Arc<str>,
    /// Its own SPIFFE ID.
    pub(crate) spiffe_id: SpiffeId,
    /// Who its processes are.
    pub(crate) domain: Domain,
    /// By what they were known.
    pub(crate) measured: Measured,
    /// Where they are, as it is kept.
    pub(crate) place: Place,
    /// What it starts with: its domain's label, or what it had before a restart.
    pub(crate) standing: Standing,
}

/// Which task a process speaks of, where that is not clear.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Which {
    /// None of it.
    #[error("no task of yours is live here; begin one with: writ task begin, or writ run --mandate")]
    None,
    /// Not this one.
    #[error("{0} is not a live task of yours")]
    NotYours(TaskId),
    /// Several, and none was named.
    #[error("you have {0} live tasks; name one")]
    Several(usize),
}

impl Book {
    /// Who is told first when tasks end. Set once, before any task begins.
    pub(crate) fn when_ended(&self, hooks: Vec<Hook>) {
        let is_first = self.hooks.set(hooks).is_ok();
        debug_assert!(is_first, "hooks are set once");
    }

    /// Counts whatever changes here: tasks that begin, change and end.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.0.subscribe()
    }

    /// Enters a task. A child joins the chain of its parent, which must be here and may act.
    pub(crate) fn enter(&self, task: Entered, now: Now) -> Result<Arc<Live>, Denial> {
        let Entered { grant, signed, spiffe_id, domain, measured, place, standing } = task;
        let mut inner = self.inner.lock();
        let state = standing.state;
        let parent = grant.parent.as_ref().and_then(|parent| inner.tasks.get(parent));
        let chain = match (&grant.parent, parent) {
            (None, _) => Arc::new(Mutex::new(Chain::begin(grant.clone(), standing, now))),
            (Some(_), Some(parent)) => {
                let chain = parent.chain.clone();
                chain.lock().delegate(grant.clone(), standing, now)?;
                chain
            }
            (Some(parent), None) => {
                let why = format!("the task above it, {parent}, is not live on this node");
                return Err(Denial::new(authz::Code::NoTask, why));
            }
        };
        let live = Arc::new(Live::new(grant, signed, spiffe_id, (domain, place), measured, chain, state));
        inner.enter(&live);
        drop(inner);
        self.changes.tell();
        Ok(live)
    }

    /// The task of this name.
    pub(crate) fn get(&self, id: &TaskId) -> Option<Arc<Live>> {
        self.inner.lock().tasks.get(id).cloned()
    }

    /// All of them, parents before children.
    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        let mut all: Vec<_> = self.inner.lock().tasks.values().cloned().collect();
        all.sort_by(|a, b| (a.grant.depth, a.id()).cmp(&(b.grant.depth, b.id())));
        all
    }

    /// The tasks of a process at this moment, as the module's rule says: those of its thread group first. Suspended
    /// ones are among them.
    pub(crate) fn of(&self, peer: &Peer) -> Vec<Arc<Live>> {
        let (mut found, knows_cgroups) = {
            let inner = self.inner.lock();
            let own = inner.of_process.get(&peer.process()).cloned().unwrap_or_default();
            (own, !inner.of_cgroup.is_empty())
        };
        found.retain(|live| live.domain.has(peer));
        if knows_cgroups
            && let Ok(text) = peer.cgroup()
            && let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::"))
        {
            found
                .extend(self.inner.lock().innermost(path).map(|slot| slot.tasks.clone()).unwrap_or_default());
        }
        if peer.alive() { found } else { Vec::new() }
    }

    /// The task that a process speaks of: the one that it names, or the only one of its innermost domain.
    pub(crate) fn speaks_of(&self, peer: &Peer, named: Option<&TaskId>) -> Result<Arc<Live>, Which> {
        let all = self.of(peer);
        if let Some(named) = named {
            let found = all.into_iter().find(|live| live.id() == named);
            return found.ok_or_else(|| Which::NotYours(named.clone()));
        }
        let is_own = |live: &&Arc<Live>| live.domain.group().is_some();
        let own: Vec<_> = all.iter().filter(is_own).cloned().collect();
        let nearest = if own.is_empty() { all } else { own };
        match nearest.as_slice() {
            [] => Err(Which::None),
            [only] => Ok(only.clone()),
            several => Err(Which::Several(several.len())),
        }
    }

    /// Closes a task and all below it: from here on nobody is permitted anything for them. Gives back those that
    /// ended by this, children first; nothing where it had ended before.
    pub(crate) fn close(&self, id: &TaskId, reason: Reason) -> Closed {
        let mut inner = self.inner.lock();
        let Some(live) = inner.tasks.get(id).cloned() else { return Closed::default() };
        let mut ended = live.chain.lock().end(id, reason);
        ended.reverse(); // children first
        let closed: Vec<_> = ended.iter().filter_map(|id| inner.leave(id)).collect();
        drop(inner);
        for live in &closed {
            let reason = if live.id() == id { reason } else { Reason::Ancestor };
            live.tell(State::Ended(reason));
        }
        let voiding = match closed.is_empty() {
            true => Vec::new(),
            false => self.hooks.get().into_iter().flatten().map(|hook| hook(&closed)).collect(),
        };
        self.changes.tell();
        Closed { tasks: closed, voiding }
    }

    /// Suspends a task, and with it all below it: they may wait or end. Gives back whether that changes anything.
    pub(crate) fn suspend(&self, id: &TaskId, reason: Reason) -> bool {
        self.turn(id, |chain| !chain.suspend(id, reason).is_empty())
    }

    /// Lets a suspended task go on: the server says so.
    pub(crate) fn resume(&self, id: &TaskId) -> bool {
        self.turn(id, |chain| chain.resume(id))
    }

    fn turn(&self, id: &TaskId, change: impl FnOnce(&mut Chain) -> bool) -> bool {
        let inner = self.inner.lock();
        let Some(live) = inner.tasks.get(id) else { return false };
        let mut chain = live.chain.lock();
        let changed = change(&mut chain);
        for (id, state) in chain.tasks() {
            inner.tasks.get(id).into_iter().for_each(|live| live.tell(*state));
        }
        drop(chain);
        drop(inner);
        if changed {
            self.changes.tell();
        }
        changed
    }

    /// Tells everybody what the chain of this task says: somebody who held its lock changed it.
    pub(crate) fn look_at(&self, id: &TaskId) {
        self.turn(id, |_| true);
    }

    /// Takes over a new SVID of a task, unless it may not have one any more.
    pub(crate) fn hold(&self, live: &Live, held: Arc<Credential>) {
        live.hold(held);
        self.changes.tell();
    }

    /// This cgroup held a task once; its processes are of no task around it.
    pub(crate) fn spent(&self, cgroup: Cgroup) {
        let mut inner = self.inner.lock();
        inner.of_cgroup.entry(cgroup.path().to_owned()).or_insert(Slot { cgroup, tasks: Vec::new() });
    }

    /// Forgets the cgroups that are no more.
    pub(crate) fn forget_cgroups(&self) {
        self.inner.lock().of_cgroup.retain(|_, slot| !slot.tasks.is_empty() || slot.cgroup.is_there());
    }
}

impl Inner {
    fn enter(&mut self, live: &Arc<Live>) {
        self.tasks.insert(live.id().clone(), live.clone());
        if let Some(process) = live.domain.process_name() {
            self.of_process.entry(process).or_default().push(live.clone());
        }
        if let Some(cgroup) = live.domain.as_cgroup() {
            let fresh = || Slot { cgroup: cgroup.clone(), tasks: Vec::new() };
            let slot = self.of_cgroup.entry(cgroup.path().to_owned()).or_insert_with(fresh);
            if slot.cgroup != *cgroup {
                *slot = fresh(); // a later cgroup of the same path is another one
            }
            slot.tasks.push(live.clone());
        }
    }

    fn leave(&mut self, id: &TaskId) -> Option<Arc<Live>> {
        let live = self.tasks.remove(id)?;
        if let Some(process) = live.domain.process_name()
            && let Some(tasks) = self.of_process.get_mut(&process)
        {
            tasks.retain(|other| other.id() != id);
            if tasks.is_empty() {
                self.of_process.remove(&process);
            }
        }
        if let Some(cgroup) = live.domain.as_cgroup()
            && let Some(slot) = self.of_cgroup.get_mut(cgroup.path())
        {
            slot.tasks.retain(|other| other.id() != id);
        }
        Some(live)
    }

    /// The innermost cgroup around `path` that ever held a task, if it is still the same one.
    fn innermost(&self, path: &str) -> Option<&Slot> {
        let mut path = path;
        loop {
            if let Some(slot) = self.of_cgroup.get(path)
                && slot.cgroup.is_there()
            {
                return Some(slot);
            }
            path = path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty())?;
        }
    }
}

impl Changes {
    fn tell(&self) {
        self.0.send_modify(|count| *count += 1);
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}
