//! What tasks have spent and read, over a crash of the agent: kept twice a second, and from there on read from the
//! records of the spool. Whoever's spending is not known any more may not go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use audit::{Decision, Kind, Placed, Record, Recorded};
use authz::{
    Code,
    chain::{Standing, State},
};
use daemon::{DiskError, read_private, write_private};
use parking_lot::{Condvar, Mutex};
use registry::{
    objects::{Reason, TaskId},
    scope::Effect,
};
use serde::{Deserialize, Serialize};

use super::records;
use crate::{
    spool::{Spool, Unrecorded},
    tasks::Home,
};

/// What is kept, and the calls that have no outcome yet.
pub(super) struct Standings {
    path: PathBuf,
    open: Mutex<Open>,
    /// An outcome is durable, or will not be.
    settled: Condvar,
}

/// Calls of which no outcome is durable.
#[derive(Default)]
struct Open {
    calls: BTreeMap<Call, Arc<Record>>,
    /// Those of them whose outcome is being recorded.
    closing: BTreeSet<Call>,
    /// Those whose outcome became durable since the last time, with the number of its record.
    closed: BTreeMap<Call, u64>,
}

/// What the tasks of a former process had spent and read.
pub(super) type Former = BTreeMap<TaskId, Standing>;

/// A call by its task and its place there.
type Call = (String, u64);

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Which spool.
    spool: String,
    /// All of its records up to here are in it; some later ones may be.
    seq: u64,
    tasks: Former,
    /// Calls that were permitted and have no outcome.
    open: Vec<Record>,
    /// Ends of tasks that are not closed.
    #[serde(default)]
    ended: Vec<Record>,
}

impl Standings {
    /// Reads what a former process left. Calls without an outcome are recorded as unknown, and count as done.
    pub(super) fn open(dir: &Path, home: &Home, spool: &Spool) -> Result<(Arc<Self>, Former), DiskError> {
        let path = dir.join(FILE);
        let failed = |source| DiskError::Io { action: "read", path: path.clone(), source };
        let kept = match read_private(&path, MOST_BYTES)? {
            Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(path = %path.display(), %error, "what tasks have spent cannot be read; they are suspended");
                Kept::default()
            }),
            None => Kept::default(),
        };
        let end = spool.end().borrow().clone();
        let is_known = kept.spool == end.spool.to_string() && spool.oldest() <= kept.seq + 1;
        spool.digested(end.spool, if is_known { kept.seq } else { 0 });
        let tasks = home.records.load().map_err(failed)?;
        let lines = tasks.iter().map(|task| (task.grant.id.clone(), task.grant.parent.clone())).collect();
        let mut replay = Replay::of(kept.tasks, kept.open, kept.ended, lines);
        // An outcome may have become durable just before it was known to be: it is looked for a little further back.
        let from = if is_known { kept.seq } else { 0 };
        let mut reader = spool.reader(from.saturating_sub(LOOKED_BACK).max(spool.oldest().saturating_sub(1)));
        loop {
            let read = reader.next(CHUNK).map_err(failed)?;
            if read.is_empty() {
                break;
            }
            for spooled in read {
                // One that says nothing to this version says nothing of a task either.
                match Placed::parse(&spooled.leaf) {
                    Ok(placed) if placed.seq > from => replay.take(placed.record),
                    Ok(placed) => replay.look_back_at(&placed.record),
                    Err(_) => {}
                }
            }
        }
        replay.ended.values().for_each(|ended| home.closings.ended(ended.clone()));
        let (mut former, unknown) = replay.end();
        if !is_known {
            for standing in former.values_mut().filter(|standing| standing.state == State::Active) {
                standing.state = State::Suspended(Reason::AgentRestarted);
            }
        }
        let standings = Arc::new(Self { path, open: Mutex::default(), settled: Condvar::new() });
        for record in unknown.into_iter().map(Arc::new) {
            let labels = record.labels_out.as_ref().map(records::label);
            let outcome = records::outcome(&record, super::How::Unknown, labels.as_ref(), false);
            standings.opened(&record);
            standings.note(spool, &record, outcome);
        }
        Ok((standings, former))
    }

    /// A call is about to be permitted.
    pub(super) fn opened(&self, record: &Arc<Record>) {
        self.open.lock().calls.insert(call(record), record.clone());
    }

    /// It was never permitted.
    pub(super) fn not_opened(&self, record: &Record) {
        self.open.lock().calls.remove(&call(record));
    }

    /// Its outcome is about to be recorded.
    pub(super) fn closing(&self, record: &Record) {
        self.open.lock().closing.insert(call(record));
    }

    /// Its outcome is durable, in the record of this number.
    pub(super) fn closed(&self, record: &Record, seq: u64) {
        let (mut open, call) = (self.open.lock(), call(record));
        open.calls.remove(&call);
        open.closing.remove(&call);
        open.closed.insert(call, seq);
        self.settled.notify_all();
    }

    /// Notes its outcome: it has happened, or not, and room is kept for saying so.
    pub(super) fn note(
        self: &Arc<Self>,
        spool: &Spool,
        decided: &Arc<Record>,
        outcome: impl Into<Arc<Record>>,
    ) {
        self.closing(decided);
        spool.note_then(outcome, self.told(decided));
    }

    /// The same of one for which a few milliseconds do not matter.
    pub(super) fn note_later(
        self: &Arc<Self>,
        spool: &Spool,
        decided: &Arc<Record>,
        outcome: impl Into<Arc<Record>>,
    ) {
        self.closing(decided);
        spool.note_later(outcome, self.told(decided));
    }

    fn told(
        self: &Arc<Self>,
        decided: &Arc<Record>,
    ) -> impl FnOnce(Result<Recorded, Unrecorded>) + Send + 'static {
        let (standings, decided) = (self.clone(), decided.clone());
        move |noted| match noted {
            Ok(noted) => standings.closed(&decided, noted.seq()),
            Err(_) => standings.not_closed(&decided), // a restart finds it without an outcome
        }
    }

    /// It will not be.
    pub(super) fn not_closed(&self, record: &Record) {
        self.open.lock().closing.remove(&call(record));
        self.settled.notify_all();
    }

    /// Keeps everything as it stands. What is recorded meanwhile may count twice, never not at all.
    pub(super) fn keep(&self, home: &Home, spool: &Spool) -> io::Result<()> {
        let end = spool.end().borrow().clone();
        let open = self.open_at(end.seq).iter().map(|record| (**record).clone()).collect();
        let standing =
            |live: &crate::tasks::Live| Some((live.id().clone(), live.chain.lock().standing(live.id())?));
        let tasks = home.book.all().iter().filter_map(|live| standing(live)).collect();
        let ended = home.closings.open();
        let kept = Kept { spool: end.spool.to_string(), seq: end.seq, tasks, open, ended };
        write_private(&self.path, &serde_json::to_vec(&kept)?).map_err(io::Error::other)?;
        spool.digested(end.spool, end.seq);
        Ok(())
    }

    /// Records that tasks are closed: they have ended, the server knows, and each of their calls has an outcome. Then the
    /// server is told that, too.
    pub(super) fn close_ended(&self, home: &Home, spool: &Spool) {
        let may = |task: &str| task.parse().is_ok_and(|id| !home.is_untold(&id)) && !self.is_open(task);
        for record in home.closings.close(may) {
            let (closings, task) = (home.closings.clone(), record.task.clone().unwrap_or_default());
            let told = move |noted: Result<Recorded, _>| {
                closings.closed(&task, noted.ok().map(|noted| noted.seq()));
            };
            spool.note_then(record, told);
        }
        home.closings.to_tell(|seq| spool.is_acknowledged(seq)).iter().for_each(|task| home.tell_close(task));
    }

    /// Whether a call of this task has no outcome.
    fn is_open(&self, task: &str) -> bool {
        let of_task = (task.to_owned(), 0)..=(task.to_owned(), u64::MAX);
        self.open.lock().calls.range(of_task).next().is_some()
    }

    /// Calls without an outcome up to this record. Whether one that is being recorded is among those is known in a moment.
    fn open_at(&self, seq: u64) -> Vec<Arc<Record>> {
        let mut open = self.open.lock();
        let mut all: Vec<_> = open.calls.values().cloned().collect();
        let end = Instant::now() + SETTLED_WITHIN;
        while all.iter().any(|record| open.closing.contains(&call(record))) {
            if self.settled.wait_until(&mut open, end).timed_out() {
                break;
            }
        }
        all.retain(|record| open.closed.get(&call(record)).is_none_or(|closed| *closed > seq));
        open.closed.clear();
        all
    }
}

fn call(record: &Record) -> Call {
    (record.task.clone().unwrap_or_default(), record.task_seq.unwrap_or_default())
}

/// Tasks as they stood, brought up to date record by record.
struct Replay {
    tasks: Former,
    open: BTreeMap<Call, Record>,
    /// Ends of tasks that are not closed, by their names.
    ended: BTreeMap<String, Record>,
    parents: BTreeMap<TaskId, Option<TaskId>>,
}

impl Replay {
    fn of(
        mut tasks: Former,
        open: Vec<Record>,
        ended: Vec<Record>,
        parents: BTreeMap<TaskId, Option<TaskId>>,
    ) -> Self {
        for id in parents.keys() {
            tasks.entry(id.clone()).or_default();
        }
        let open = open.into_iter().map(|record| (call(&record), record)).collect();
        let ended = ended.into_iter().filter_map(|end| Some((end.task.clone()?, end))).collect();
        Self { tasks, open, ended, parents }
    }

    fn take(&mut self, record: Record) {
        self.turn(&record);
        let Some(id) = record.task.as_deref().and_then(|id| id.parse::<TaskId>().ok()) else { return };
        if let (Some(standing), Some(seq)) = (self.tasks.get_mut(&id), record.task_seq) {
            standing.seq = standing.seq.max(seq);
        }
        match (record.kind, record.decision) {
            (Kind::Decision, Some(Decision::Allow)) => {
                let effect = record.effect.as_deref().and_then(effect).unwrap_or(Effect::Pay);
                self.spend(&id, |standing| {
                    let spent = &mut standing.spent;
                    let count = if effect == Effect::Read { &mut spent.reads } else { &mut spent.changes };
                    *count = count.saturating_add(1);
                    spent.effects.insert(effect);
                });
                self.open.insert(call(&record), record);
            }
            (Kind::Decision, Some(Decision::Deny)) if is_probing(&record) => self.spend(&id, denied(1)),
            (Kind::Denials, _) if is_probing(&record) => {
                let count = record.count.and_then(|count| u32::try_from(count).ok()).unwrap_or(u32::MAX);
                self.spend(&id, denied(count));
            }
            (Kind::Outcome, _) => {
                self.open.remove(&call(&record));
                self.read(&id, &record);
            }
            (Kind::LabelRaise, _) => self.read(&id, &record),
            (Kind::TaskSuspend, _) => {
                if let Some(standing) = self.tasks.get_mut(&id)
                    && standing.state == State::Active
                {
                    standing.state = State::Suspended(Reason::Probing);
                }
            }
            _ => {}
        }
    }

    /// A task ended, or was closed.
    fn turn(&mut self, record: &Record) {
        let Some(task) = &record.task else { return };
        match record.kind {
            Kind::TaskEnd => drop(self.ended.insert(task.clone(), record.clone())),
            Kind::TaskClose => drop(self.ended.remove(task)),
            _ => {}
        }
    }

    /// What was kept has this in it, but perhaps not that a call or a task was closed by it, or that a task ended.
    fn look_back_at(&mut self, record: &Record) {
        self.turn(record);
        if record.kind == Kind::Outcome {
            self.open.remove(&call(record));
        }
    }

    /// The tasks as they stand now, and the calls of which nobody knows what became of them.
    fn end(mut self) -> (Former, Vec<Record>) {
        for (id, record) in std::mem::take(&mut self.open) {
            if let Ok(task) = id.0.parse() {
                self.read(&task, &record);
            }
            self.open.insert(id, record);
        }
        let below = |id: &TaskId| {
            self.parents.keys().filter(|child| self.line(child).skip(1).any(|up| up == *id)).count()
        };
        let children: Vec<_> = self.parents.keys().map(|id| (id.clone(), below(id))).collect();
        for (id, count) in children {
            if let Some(standing) = self.tasks.get_mut(&id) {
                standing.spent.children =
                    standing.spent.children.max(u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        self.tasks.retain(|id, _| self.parents.contains_key(id));
        self.tasks.values_mut().for_each(|standing| standing.continued = true);
        (self.tasks, self.open.into_values().collect())
    }

    fn read(&mut self, id: &TaskId, record: &Record) {
        if let (Some(standing), Some(labels)) = (self.tasks.get_mut(id), &record.labels_out) {
            standing.label = standing.label.join(&records::label(labels));
        }
    }

    fn spend(&mut self, id: &TaskId, spend: impl Fn(&mut Standing)) {
        for id in self.line(id).collect::<Vec<_>>() {
            self.tasks.get_mut(&id).into_iter().for_each(&spend);
        }
    }

    /// A task and those above it.
    fn line(&self, id: &TaskId) -> impl Iterator<Item = TaskId> {
        let mut next = Some(id.clone());
        // As deep as any chain may be; a circle is no chain.
        std::iter::from_fn(move || {
            let id = next.take()?;
            next = self.parents.get(&id).cloned().flatten();
            Some(id)
        })
        .take(DEEPEST)
    }
}

fn denied(count: u32) -> impl Fn(&mut Standing) {
    move |standing| standing.spent.denials = standing.spent.denials.saturating_add(count)
}

fn is_probing(record: &Record) -> bool {
    let code = record.reason.as_deref().and_then(|reason| reason.split(':').next());
    // A code that is not known here may have been of that kind.
    code.is_none_or(|code| serde_json::from_value::<Code>(code.into()).map_or(true, Code::is_probing))
}

fn effect(name: &str) -> Option<Effect> {
    serde_json::from_value(name.into()).ok()
}

const FILE: &str = "standings.json";
const MOST_BYTES: u64 = 256 * 1024 * 1024;
const CHUNK: usize = 1024 * 1024;
/// More records than become durable while one task waits for its turn to say so.
const LOOKED_BACK: u64 = 4096;
/// What is being recorded is durable within this time, or the disk is in trouble.
const SETTLED_WITHIN: Duration = Duration::from_millis(500);
const DEEPEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn id(number: u8) -> TaskId {
        format!("01J00000000000000000000{number:03}").parse().unwrap()
    }

    fn record(kind: Kind, task: u8, seq: u64) -> Record {
        Record { task: Some(id(task).to_string()), task_seq: Some(seq), ..Record::new(kind, clock::now()) }
    }

    fn permitted(task: u8, seq: u64, effect: &str) -> Record {
        Record {
            decision: Some(Decision::Allow),
            effect: Some(effect.into()),
            ..record(Kind::Decision, task, seq)
        }
    }

    fn replay() -> Replay {
        Replay::of(Former::new(), Vec::new(), Vec::new(), [(id(1), None), (id(2), Some(id(1)))].into())
    }

    #[test]
    fn what_a_child_spends_its_parent_has_spent_after_a_crash_too() {
        let mut replay = replay();
        replay.take(permitted(2, 1, "read"));
        replay.take(permitted(2, 2, "net"));
        let denied = Record { decision: Some(Decision::Deny), ..record(Kind::Decision, 2, 3) };
        replay.take(Record { reason: Some("out_of_scope: x".into()), ..denied.clone() });
        replay.take(Record { reason: Some("stale: x".into()), ..denied });
        let (former, _) = replay.end();
        for task in [1, 2] {
            let spent = &former[&id(task)].spent;
            assert_eq!((spent.reads, spent.changes, spent.denials), (1, 1, 1), "task {task}");
            assert!(former[&id(task)].continued);
        }
        assert_eq!((former[&id(1)].spent.children, former[&id(2)].seq), (1, 3));
    }

    #[test]
    fn an_outcome_that_was_durable_before_it_was_known_to_be_is_not_told_twice() {
        let open = vec![permitted(1, 1, "net"), permitted(1, 2, "net")];
        let mut replay = Replay::of(Former::new(), open, Vec::new(), [(id(1), None)].into());
        replay.look_back_at(&permitted(1, 1, "net"));
        replay.look_back_at(&record(Kind::Outcome, 1, 1));
        let (former, unknown) = replay.end();
        assert_eq!(unknown.iter().map(|record| record.task_seq).collect::<Vec<_>>(), [Some(2)]);
        assert_eq!(former[&id(1)].spent.changes, 0, "what was kept has it already");
    }

    #[test]
    fn what_has_ended_and_was_not_closed_is_to_be_closed_after_a_crash_too() {
        let ended = vec![record(Kind::TaskEnd, 1, 0)];
        let mut replay = Replay::of(Former::new(), Vec::new(), ended, BTreeMap::new());
        replay.look_back_at(&record(Kind::TaskEnd, 2, 0)); // noted just before what was kept
        replay.take(record(Kind::TaskEnd, 3, 0));
        replay.take(record(Kind::TaskEnd, 4, 0));
        replay.take(record(Kind::TaskClose, 3, 0));
        replay.look_back_at(&record(Kind::TaskClose, 1, 0));
        let names: Vec<_> = replay.ended.into_keys().collect();
        assert_eq!(names, [id(2).to_string(), id(4).to_string()]);
    }

    #[test]
    fn a_call_without_an_outcome_is_unknown_and_has_been_read() {
        let mut replay = replay();
        let labels = audit::Labels { confidentiality: 2, ..audit::Labels::default() };
        replay.take(Record { labels_out: Some(labels), ..permitted(1, 1, "read") });
        replay.take(permitted(1, 2, "read"));
        replay.take(record(Kind::Outcome, 1, 2));
        let (former, unknown) = replay.end();
        assert_eq!(unknown.iter().map(|record| record.task_seq).collect::<Vec<_>>(), [Some(1)]);
        assert_eq!(u8::from(former[&id(1)].label.confidentiality), 2);
    }
}
