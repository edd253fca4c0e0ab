//! The registry as everyone here sees it, and the one way to change it.
//!
//! Readers take [`Ledger::current`] and never wait. Changes are commands: [`Ledger::submit`] answers
//! when what was decided is durable.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use registry::{Author, Command, Registry, Revision};
use store::{Judged, Log, Origin, Witness};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    wakes::Wakes,
    writer::{Asked, Message, Writer, WriterEnd},
};

/// The registry and its writer. A clone is another handle.
#[derive(Clone)]
pub(crate) struct Ledger {
    current: Arc<ArcSwap<Registry>>,
    newest: Arc<ArcSwap<Witness>>,
    origin: Option<Origin>,
    queue: mpsc::Sender<Message>,
    wakes: Wakes,
    changed: watch::Receiver<()>,
    committed: watch::Receiver<Revision>,
}

/// A command that was not carried out, through no fault of whoever asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("nothing was changed: {0}")]
pub(crate) struct Unavailable(pub(crate) String);

/// Commands wait here while a group is being committed; beyond that, their senders wait.
const QUEUE: usize = 4096;

impl Ledger {
    /// Starts the writer of `log`, whose content is `registry`. The receiver says why it ended.
    pub(crate) fn start(
        registry: Registry,
        log: Box<dyn Log>,
        health: daemon::Health,
    ) -> std::io::Result<(Self, oneshot::Receiver<WriterEnd>)> {
        let (queue, messages) = mpsc::channel(QUEUE);
        let current = Arc::new(ArcSwap::from_pointee(registry));
        let wakes = Wakes::default();
        let (changes, changed) = watch::channel(());
        let (commits, committed) = watch::channel(current.load().revision());
        let (newest, origin) = (Arc::new(ArcSwap::from_pointee(log.witness())), log.origin().cloned());
        let writer =
            Writer::new(log, current.clone(), newest.clone(), wakes.clone(), (changes, commits), health);
        let end = writer.start(messages)?;
        Ok((Self { current, newest, origin, queue, wakes, changed, committed }, end))
    }

    /// The registry as of the last durable commit.
    pub(crate) fn current(&self) -> Arc<Registry> {
        self.current.load_full()
    }

    /// Proof of the last durable commit; never older than what [`Ledger::current`] gave before.
    pub(crate) fn newest(&self) -> Arc<Witness> {
        self.newest.load_full()
    }

    /// From which log this one goes on, if it began as a copy of another.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Decides a command and answers once what it changes is durable.
    pub(crate) async fn submit<C: Command>(
        &self,
        command: C,
        author: Author,
    ) -> Result<C::Answer, Unavailable> {
        let stopped = || Unavailable("the server is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Asked { command, author, answer });
        self.queue.send(Message::Decide(job)).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Copies the log to a file that is not there yet; gives back what is in the copy.
    pub(crate) async fn back_up(&self, to: PathBuf) -> Result<Arc<Registry>, Unavailable> {
        let stopped = || Unavailable("the server is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        self.queue.send(Message::BackUp { to, answer }).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// The audit leaves after `after`, so many at most.
    pub(crate) async fn leaves(
        &self,
        after: Revision,
        most: usize,
    ) -> Result<Vec<(Revision, Vec<u8>)>, Unavailable> {
        let stopped = || Unavailable("the server is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        self.queue.send(Message::Leaves { after, most, answer }).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// The last durable revision, and each later one.
    pub(crate) fn committed(&self) -> watch::Receiver<Revision> {
        self.committed.clone()
    }

    /// What a witness shows that somebody kept. One that proves the log to be an older copy of itself ends
    /// the server.
    pub(crate) async fn judge(&self, kept: Witness) -> Judged {
        let (answer, answered) = oneshot::channel();
        let asked = self.queue.send(Message::Judge { kept: Box::new(kept), answer }).await;
        match asked {
            Ok(()) => answered.await.unwrap_or(Judged::Nothing),
            Err(_) => Judged::Nothing,
        }
    }

    /// Has the log closed after what waits now. Whoever asks later hears that the server is stopping.
    pub(crate) async fn close(&self) {
        let _ = self.queue.send(Message::Close).await; // it may have ended by itself
    }

    /// How many commands wait for the log.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Whom commits wake.
    pub(crate) fn wakes(&self) -> &Wakes {
        &self.wakes
    }

    /// Changes when authorities, or what has an end, may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.clone()
    }
}
