//! The writer: one thread owns the log and decides a queue of commands.
//!
//! Commands that wait are decided one after the other on a draft of the registry and committed as one
//! group. Only then is the draft published, are the concerned nodes woken and the askers answered: nobody
//! ever sees what a crash could take back.

use std::{path::PathBuf, sync::Arc, thread};

use arc_swap::ArcSwap;
use daemon::{Health, now_unix_millis};
use registry::{Author, Change, Command, Commit, Key, Moment, Registry, Revision, Touched};
use spiffe::Timestamp;
use store::{Judged, Log, StoreError, Witness};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{ledger::Unavailable, wakes::Wakes};

/// A group is closed when it has so many commands.
const MAX_COMMANDS: usize = 512;
/// A group is closed when it has so many changes: beyond that a longer transaction gains nothing.
const MAX_CHANGES: usize = 4096;
/// Events that are kept, for whoever follows the log; objects and audit leaves stay for ever.
const KEPT_EVENTS: u64 = 10_000;
/// Older events are forgotten so many at a time.
const COMPACT_EVERY: u64 = 1_000;
const PART: &str = "log";

/// Why the writer ended.
#[derive(Debug, thiserror::Error)]
pub enum WriterEnd {
    /// Nobody can ask any more.
    #[error("the server stopped")]
    Stopped,
    /// The log can take nothing more in this process.
    #[error(transparent)]
    Log(#[from] StoreError),
}

/// Owns the log.
pub(crate) struct Writer {
    log: Box<dyn Log>,
    current: Arc<ArcSwap<Registry>>,
    newest: Arc<ArcSwap<Witness>>,
    wakes: Wakes,
    changes: watch::Sender<()>,
    commits: watch::Sender<Revision>,
    health: Health,
    /// The revision at which old events are forgotten next.
    compact_at: u64,
}

/// A command with whoever asked, its answer's type forgotten.
pub(crate) trait Job: Send {
    /// Decides the command on top of the group.
    fn decide(self: Box<Self>, group: &mut Group);
}

/// What the writer is asked for.
pub(crate) enum Message {
    /// To decide a command.
    Decide(Box<dyn Job>),
    /// To copy the log to a file that is not there, and tell what is in the copy.
    BackUp { to: PathBuf, answer: oneshot::Sender<Result<Arc<Registry>, Unavailable>> },
    /// The audit leaves after a revision.
    Leaves { after: Revision, most: usize, answer: oneshot::Sender<Result<Leaves, Unavailable>> },
    /// What a witness that somebody kept shows.
    Judge { kept: Box<Witness>, answer: oneshot::Sender<Judged> },
    /// To close the log, whoever may still want something of it.
    Close,
}

/// Audit leaves with their revisions.
type Leaves = Vec<(Revision, Vec<u8>)>;

/// A command and where its answer goes.
pub(crate) struct Asked<C: Command> {
    pub(crate) command: C,
    pub(crate) author: Author,
    pub(crate) answer: oneshot::Sender<Result<C::Answer, Unavailable>>,
}

/// Commands decided together, not yet durable.
pub(crate) struct Group {
    draft: Registry,
    now: Timestamp,
    commits: Vec<Commit>,
    touched: Vec<Arc<Touched>>,
    changes: usize,
    answers: Vec<Answer>,
}

/// Tells an asker how the group went: what failed, or nothing.
type Answer = Box<dyn FnOnce(Option<&Unavailable>) + Send>;

impl<C: Command> Job for Asked<C> {
    fn decide(self: Box<Self>, group: &mut Group) {
        let Self { command, author, answer } = *self;
        let moment = Moment { now: group.now, author };
        let decision = command.decide(&group.draft, &moment);
        if let Some(commit) = decision.proposal.into_commit(&group.draft, &moment)
            && let Err(failed) = group.add(commit)
        {
            drop(answer.send(Err(failed)));
            return;
        }
        // Also what changed nothing waits for the group: it may rest on what others in it changed.
        group.answers.push(Box::new(move |failed| {
            let result = failed.map_or(Ok(decision.answer), |failed| Err(failed.clone()));
            drop(answer.send(result)); // whoever asked may have gone
        }));
    }
}

impl Group {
    fn add(&mut self, commit: Commit) -> Result<(), Unavailable> {
        match self.draft.apply(&commit) {
            Ok(touched) => {
                self.changes += commit.changes.len();
                self.touched.push(touched);
                self.commits.push(commit);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "a command proposed what does not follow; nothing of it was done");
                Err(Unavailable("the command contradicts the registry; see the server's log".to_owned()))
            }
        }
    }

    fn is_full(&self) -> bool {
        self.answers.len() >= MAX_COMMANDS || self.changes >= MAX_CHANGES
    }

    /// Whether rotation and expiry must look again.
    fn moves_clocks(&self) -> bool {
        let moves = |change: &Change| {
            matches!(
                change.key(),
                Key::Authority(_)
                    | Key::Entry(_)
                    | Key::Token(_)
                    | Key::Proof(_)
                    | Key::Actor(_)
                    | Key::Task(_)
            )
        };
        self.commits.iter().flat_map(|commit| &commit.changes).any(moves)
    }
}

impl Writer {
    pub(crate) fn new(
        log: Box<dyn Log>,
        current: Arc<ArcSwap<Registry>>,
        newest: Arc<ArcSwap<Witness>>,
        wakes: Wakes,
        (changes, commits): (watch::Sender<()>, watch::Sender<Revision>),
        health: Health,
    ) -> Self {
        let compact_at = current.load().revision().0 + COMPACT_EVERY;
        Self { log, current, newest, wakes, changes, commits, health, compact_at }
    }

    /// Starts the thread. It ends with the queue, when it is told to, or when the log can take nothing
    /// more; once the end is told, the log is closed.
    pub(crate) fn start(
        self,
        messages: mpsc::Receiver<Message>,
    ) -> std::io::Result<oneshot::Receiver<WriterEnd>> {
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("writ-writer".to_owned()).spawn(move || {
            let why = self.run(messages);
            drop(end.send(why));
        })?;
        Ok(ended)
    }

    fn run(mut self, mut messages: mpsc::Receiver<Message>) -> WriterEnd {
        let mut next = None;
        while let Some(message) = next.take().or_else(|| messages.blocking_recv()) {
            match message {
                Message::Decide(first) => {
                    let group;
                    (group, next) = self.decide(first, &mut messages);
                    if let Err(error) = self.commit(group) {
                        return error.into();
                    }
                }
                Message::BackUp { to, answer } => {
                    let copied = self.log.backup(&to).map(|()| self.current.load_full());
                    drop(answer.send(copied.map_err(|error| Unavailable(error.to_string()))));
                }
                Message::Leaves { after, most, answer } => {
                    let leaves = self.log.leaves(after, most);
                    drop(answer.send(leaves.map_err(|error| Unavailable(error.to_string()))));
                }
                Message::Judge { kept, answer } => match self.log.judge(&kept) {
                    Ok(judged) => drop(answer.send(judged)),
                    // What would be decided on top of an older copy would not know what had ended.
                    Err(error) => {
                        tracing::error!(%error, witness = ?kept.revision, "an agent has seen more of the log than there is");
                        self.health.unready(PART, error.to_string());
                        return error.into();
                    }
                },
                Message::Close => break,
            }
        }
        WriterEnd::Stopped
    }

    /// Decides what waits until the group is full, or something else than a command is next.
    fn decide(
        &self,
        first: Box<dyn Job>,
        messages: &mut mpsc::Receiver<Message>,
    ) -> (Group, Option<Message>) {
        let mut group = Group {
            draft: Registry::clone(&self.current.load()),
            now: Timestamp::from_unix_millis(now_unix_millis()),
            commits: Vec::new(),
            touched: Vec::new(),
            changes: 0,
            answers: Vec::new(),
        };
        first.decide(&mut group);
        while !group.is_full() {
            match messages.try_recv() {
                Ok(Message::Decide(job)) => job.decide(&mut group),
                Ok(other) => return (group, Some(other)),
                Err(_) => break,
            }
        }
        (group, None)
    }

    /// Makes a group durable and known. An error is one after which this log must not be used.
    fn commit(&mut self, group: Group) -> Result<(), StoreError> {
        if group.commits.is_empty() {
            group.answers.into_iter().for_each(|answer| answer(None));
            return Ok(());
        }
        if let Err(error) = self.log.commit(&group.commits) {
            tracing::error!(%error, "a group of {} commits was refused by the log", group.commits.len());
            self.health.unready(PART, error.to_string());
            let failed = Unavailable(error.to_string());
            group.answers.into_iter().for_each(|answer| answer(Some(&failed)));
            return match error {
                StoreError::Full => Ok(()), // it goes on once there is space
                fatal => Err(fatal),
            };
        }
        self.health.ready(PART);
        let moved = group.moves_clocks();
        self.newest.store(Arc::new(self.log.witness()));
        let revision = group.draft.revision();
        self.current.store(Arc::new(group.draft));
        self.commits.send_replace(revision);
        group.touched.iter().for_each(|touched| self.wakes.wake(&touched.audience()));
        if moved {
            self.changes.send_replace(());
        }
        group.answers.into_iter().for_each(|answer| answer(None));
        self.compact()
    }

    /// Forgets events that nobody asks for any more. Nobody waits for it.
    fn compact(&mut self) -> Result<(), StoreError> {
        let Revision(revision) = self.current.load().revision();
        if revision < self.compact_at {
            return Ok(());
        }
        self.compact_at = revision + COMPACT_EVERY;
        match self.log.compact(Revision(revision.saturating_sub(KEPT_EVENTS))) {
            Err(StoreError::Full) => Ok(()), // the next commit says so where somebody hears it
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use parking_lot::Mutex;
    use registry::{
        Settings,
        decide::token::CreateToken,
        objects::{NodeName, Sha256},
    };
    use store::{Loaded, Memory};

    use super::*;
    use crate::ledger::Ledger;

    /// A disk that counts what it is asked for, waits to be let go, and fails as it is told.
    #[derive(Clone, Default)]
    struct Disk {
        groups: Arc<AtomicUsize>,
        fails: Arc<Mutex<Option<StoreError>>>,
        /// The newest event that is forgotten.
        forgotten: Arc<AtomicUsize>,
        /// While its sender lives, nothing becomes durable.
        gate: Arc<Mutex<Option<std::sync::mpsc::Receiver<()>>>>,
        closed: Arc<AtomicBool>,
    }

    struct Watched(Memory, Disk);

    impl Drop for Watched {
        fn drop(&mut self) {
            thread::sleep(std::time::Duration::from_millis(50)); // as SQLite does, when much is to be carried over
            self.1.closed.store(true, Relaxed);
        }
    }

    impl Log for Watched {
        fn id(&self) -> &registry::LogId {
            self.0.id()
        }
        fn load(&mut self) -> Result<Loaded, StoreError> {
            self.0.load()
        }
        fn commit(&mut self, group: &[Commit]) -> Result<(), StoreError> {
            self.1.groups.fetch_add(1, Relaxed);
            if let Some(gate) = self.1.gate.lock().take() {
                let _ = gate.recv();
            }
            match self.1.fails.lock().take() {
                Some(error) => Err(error),
                None => self.0.commit(group),
            }
        }
        fn leaves(&mut self, after: Revision, most: usize) -> Result<Vec<(Revision, Vec<u8>)>, StoreError> {
            self.0.leaves(after, most)
        }
        fn tail(&mut self, after: Revision) -> Result<Vec<Commit>, StoreError> {
            self.0.tail(after)
        }
        fn compact(&mut self, upto: Revision) -> Result<(), StoreError> {
            self.1.forgotten.store(upto.0 as usize, Relaxed);
            self.0.compact(upto)
        }
        fn backup(&mut self, to: &std::path::Path) -> Result<(), StoreError> {
            self.0.backup(to)
        }
        fn witness(&self) -> Witness {
            self.0.witness()
        }
        fn judge(&mut self, kept: &Witness) -> Result<Judged, StoreError> {
            self.0.judge(kept)
        }
        fn begin_anew(&mut self, first: &Commit) -> Result<(), StoreError> {
            self.0.begin_anew(first)
        }
        fn origin(&self) -> Option<&store::Origin> {
            self.0.origin()
        }
    }

    fn start() -> (Ledger, oneshot::Receiver<WriterEnd>, Disk, Health) {
        let (id, disk, health) = (registry::LogId("log".to_owned()), Disk::default(), Health::new());
        let registry = Registry::new(Settings::new("acme.example".parse().unwrap()), id.clone());
        let log = Box::new(Watched(Memory::new(id), disk.clone()));
        let (ledger, ended) = Ledger::start(registry, log, health.clone()).unwrap();
        (ledger, ended, disk, health)
    }

    fn token(node: &str) -> CreateToken {
        let node: NodeName = node.parse().unwrap();
        CreateToken { node, secret_sha256: Sha256::of(b"secret"), ttl: std::time::Duration::from_secs(60) }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn commands_that_wait_become_durable_together_and_in_order() {
        let (ledger, _ended, disk, _health) = start();
        let (open, gate) = std::sync::mpsc::channel();
        *disk.gate.lock() = Some(gate);
        let ask = |n: usize| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.submit(token(&format!("n{n}")), Author::Server).await })
        };
        let mut asked = vec![ask(0)];
        while disk.groups.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        asked.extend((1..100).map(ask));
        while ledger.waiting() < 99 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ledger.current().revision(), Revision(0), "nobody sees what is not durable");
        drop(open);
        for answer in asked {
            answer.await.unwrap().unwrap().unwrap();
        }
        assert_eq!(disk.groups.load(Relaxed), 2, "the first alone, then all that waited");
        assert_eq!(ledger.current().revision(), Revision(100));
        assert_eq!(ledger.current().tokens().len(), 100);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn on_a_full_disk_nothing_changes_and_later_it_goes_on() {
        let (ledger, _ended, disk, health) = start();
        *disk.fails.lock() = Some(StoreError::Full);
        let refused = ledger.submit(token("n"), Author::Server).await.unwrap_err();
        assert!(refused.to_string().contains("no space"), "{refused}");
        assert!(ledger.current().tokens().len() == 0 && health.reasons().contains_key(PART));
        ledger.submit(token("n"), Author::Server).await.unwrap().unwrap();
        assert_eq!(ledger.current().revision(), Revision(1), "no revision was lost");
        assert!(health.reasons().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn old_events_are_forgotten_and_the_newest_are_kept() {
        let (ledger, _ended, disk, _health) = start();
        let last = KEPT_EVENTS + 2 * COMPACT_EVERY;
        for _ in 0..last.div_ceil(MAX_COMMANDS as u64) {
            let asked: Vec<_> = (0..MAX_COMMANDS)
                .map(|_| {
                    let ledger = ledger.clone();
                    tokio::spawn(async move { ledger.submit(token("n"), Author::Server).await })
                })
                .collect();
            for answer in asked {
                answer.await.unwrap().unwrap().unwrap();
            }
        }
        let forgotten = disk.forgotten.load(Relaxed) as u64;
        let revision = ledger.current().revision().0;
        assert!(forgotten > 0 && revision - forgotten >= KEPT_EVENTS, "{forgotten} of {revision}");
        assert!(revision - forgotten <= KEPT_EVENTS + COMPACT_EVERY + MAX_COMMANDS as u64);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn after_a_failure_that_leaves_the_disk_unknown_the_writer_ends() {
        let (ledger, ended, disk, _health) = start();
        *disk.fails.lock() = Some(StoreError::Fenced);
        assert!(ledger.submit(token("n"), Author::Server).await.is_err());
        assert!(matches!(ended.await.unwrap(), WriterEnd::Log(StoreError::Fenced)));
        assert!(ledger.submit(token("n"), Author::Server).await.is_err());
        assert_eq!(ledger.current().tokens().len(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn once_the_end_is_told_the_log_is_closed_whoever_still_holds_the_ledger() {
        let (ledger, ended, disk, _health) = start();
        let last = ledger.submit(token("n"), Author::Server);
        last.await.unwrap().unwrap();
        ledger.close().await;
        assert!(matches!(ended.await.unwrap(), WriterEnd::Stopped));
        assert!(disk.closed.load(Relaxed), "the end was told too early");
        assert!(ledger.submit(token("n"), Author::Server).await.is_err());
    }
}
