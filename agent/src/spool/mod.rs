//! The spool: what this node decided and did, durable here before anything is permitted, until its server
//! has it.
//!
//! | file | holds |
//! |---|---|
//! | `writer` | the one thread that appends: whatever waits becomes durable by one sync |
//! | `segments` | the files, and the room that is kept for endings |
//! | `shares` | how much of the room each tenant has taken |
//! | `open` | what a former process left |
//! | `marks` | whose spool it is, and what the server has of it |
//! | `reader` | reading on where an upload stopped |
//! | `upload` | to the server, which says what it has |
//! | `heads` | once a second: the head is signed, floods are summed up |
//!
//! A permit is made from [`Recorded`], which exists only once its record survives a crash. What ends
//! authority uses [`Spool::note`], which never waits and has room of its own.

mod heads;
mod marks;
mod open;
mod queue;
mod reader;
mod segments;
mod shares;
mod upload;
mod writer;

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use audit::{
    Head, Record, Recorded, Sealed,
    flood::{Floods, Recording},
    spool::SpoolId,
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

pub(crate) use self::upload::work;
pub use self::{
    heads::Heads,
    reader::{Reader, Spooled},
};
use self::{
    queue::{Answer, Asked, Noted, Queue},
    segments::Shelf,
};
use crate::clock;

/// Where a spool lies, and how large it may become.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its directory.
    pub dir: PathBuf,
    /// Bytes of each segment.
    pub segment: u32,
    /// Bytes of all segments together; what the server has is deleted.
    pub most: u64,
    /// Bytes of one tenant that the server does not have yet; beyond that only its endings are recorded.
    pub share: u64,
    /// How much of what is denied is recorded singly.
    pub floods: audit::flood::Terms,
}

/// A node's spool. A clone is another handle; with the last one the writer ends, after what waits.
#[derive(Clone)]
pub struct Spool {
    queue: Arc<Queue>,
    shelf: Arc<Shelf>,
    floods: Arc<Mutex<Floods>>,
    end: watch::Receiver<End>,
    /// Up to where the server has it.
    acknowledged: watch::Sender<(SpoolId, u64)>,
    /// The latest record whose acknowledgement somebody waits for.
    wanted: watch::Sender<u64>,
    _last: Arc<Last>,
}

/// The end of the chain that survives a crash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct End {
    /// Whose chain; empty before the node has joined.
    pub node: String,
    /// Which spool.
    pub spool: SpoolId,
    /// The last record.
    pub seq: u64,
    /// Its hash.
    pub hash: audit::Hash,
}

/// Why something was not recorded, so that it must not be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unrecorded {
    /// The node has no name yet under which it could record anything.
    #[error("this node has not joined yet, so nothing can be recorded")]
    Nameless,
    /// No room is left but what is kept for endings.
    #[error(
        "no space is left for audit records; free some on the file system of the agent's state_dir, or let the server be reached"
    )]
    Full,
    /// The records of one tenant have used up its share of the room.
    #[error("its tenant has used up its share of the room for audit records; let the server be reached")]
    Share,
    /// More waits than the disk keeps up with.
    #[error("the disk does not keep up with audit records")]
    Busy,
    /// The record says too much.
    #[error("the audit record is longer than {} bytes", audit::MAX_RECORD)]
    TooLong,
    /// The disk failed in a way that leaves open what reached it.
    #[error("the disk of the audit records failed; restart the agent")]
    Broken,
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopped,
}

/// A spool that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file or directory.
    #[error(transparent)]
    Disk(#[from] daemon::DiskError),
    /// No thread, or no randomness.
    #[error("the spool of audit records cannot be started: {0}")]
    Start(String),
}

impl Terms {
    /// A spool in `dir` with the usual limits.
    pub fn new(dir: PathBuf) -> Self {
        let (most, floods) = (256 * 1024 * 1024, audit::flood::Terms::default());
        Self { dir, segment: 1024 * 1024, most, share: most / 2, floods }
    }
}

impl Spool {
    /// Records something. The answer comes when it survives a crash, or at once when it cannot be.
    pub async fn record(&self, record: impl Into<Arc<Record>>) -> Result<Recorded, Unrecorded> {
        self.record_with(record.into(), None).await
    }

    /// Records something with what is sealed beside it; its commitment is in the record.
    pub async fn record_with(
        &self,
        record: impl Into<Arc<Record>>,
        sealed: Option<Sealed>,
    ) -> Result<Recorded, Unrecorded> {
        let record = record.into();
        let (answer, answered) = oneshot::channel();
        self.queue.ask(Asked { record, sealed, answer: Answer::Waits(answer) });
        answered.await.unwrap_or(Err(Unrecorded::Stopped))
    }

    /// Notes an ending. It has taken effect already and waits for nothing: the record follows, from room
    /// that nothing else may use.
    pub fn note(&self, record: impl Into<Arc<Record>>) {
        self.note_then(record, |noted| {
            if noted.is_err() {
                tracing::error!(
                    "an ending was not recorded, because the agent is stopping or its disk failed"
                );
            }
        });
    }

    /// The same; `then` is told what became of it, on the thread that all records wait for. It holds no [`Spool`].
    pub fn note_then(
        &self,
        record: impl Into<Arc<Record>>,
        then: impl FnOnce(Result<Recorded, Unrecorded>) + Send + 'static,
    ) {
        self.queue.note(Noted { record: record.into(), answer: Answer::Then(Box::new(then)) });
    }

    /// The same of what goes with others, or a few milliseconds later.
    pub fn note_later(
        &self,
        record: impl Into<Arc<Record>>,
        then: impl FnOnce(Result<Recorded, Unrecorded>) + Send + 'static,
    ) {
        self.queue.note_later(Noted { record: record.into(), answer: Answer::Then(Box::new(then)) });
    }

    /// Records a denial: singly as long as its task's budget lasts, then counted with others.
    pub async fn deny(&self, record: Record) -> Result<Option<Recorded>, Unrecorded> {
        let recording = self.floods.lock().denied(record, clock::now());
        match recording {
            Recording::Single(record) => self.record(*record).await.map(Some),
            Recording::Counted => Ok(None),
        }
    }

    /// The end of what is durable; changes with each group of records.
    pub fn end(&self) -> watch::Receiver<End> {
        self.end.clone()
    }

    /// The node has joined under this name. Under another one than before, another spool begins.
    pub fn know(&self, node: &str) {
        self.queue.know(node.to_owned());
    }

    /// The server has everything up to and with this record of this spool.
    pub fn acknowledge(&self, spool: SpoolId, seq: u64) {
        self.queue.acknowledge(spool, seq);
        self.acknowledged.send_if_modified(|known| {
            let is_more = known.0 != spool || known.1 < seq;
            if is_more {
                *known = (spool, seq);
            }
            is_more
        });
    }

    /// What would be read from the records up to this one, if the agent ended now, is kept elsewhere. From the first time
    /// on, no later record is deleted as long as there is room, whether the server has it or not.
    pub fn digested(&self, spool: SpoolId, seq: u64) {
        *self.queue.digested.lock() = Some((spool, seq));
        let (of, acknowledged) = *self.acknowledged.borrow();
        if of == spool {
            self.queue.acknowledge(spool, acknowledged);
        }
    }

    /// Waits until the server has this record of the present spool; false where it does not say so in time.
    pub async fn acknowledged(&self, seq: u64, within: Duration) -> bool {
        let spool = self.end.borrow().spool;
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, seq.max(*wanted)) < seq);
        let mut acknowledged = self.acknowledged.subscribe();
        let has = acknowledged.wait_for(|(of, last)| *of == spool && *last >= seq);
        tokio::time::timeout(within, has).await.is_ok_and(|has| has.is_ok())
    }

    /// Whether the server has this record of the present spool.
    pub fn is_acknowledged(&self, seq: u64) -> bool {
        let (of, last) = *self.acknowledged.borrow();
        of == self.end.borrow().spool && last >= seq
    }

    /// Sets this spool aside and begins another one: what the server has contradicts it.
    pub fn begin_anew(&self, why: &str) {
        self.queue.begin_anew(why.to_owned());
    }

    /// Reads from the record after `after` on.
    pub fn reader(&self, after: u64) -> Reader {
        Reader::new(self.shelf.clone(), self.end.clone(), after)
    }

    /// The number of the oldest record that is still here.
    pub fn oldest(&self) -> u64 {
        self.shelf.oldest()
    }

    /// Why nothing new can be recorded, if so.
    pub fn trouble(&self) -> Option<Unrecorded> {
        self.queue.trouble()
    }

    /// Records what was counted, as long as there is room for it.
    fn sum_up(&self) {
        if self.trouble().is_some() {
            return; // it is counted on
        }
        for record in self.floods.lock().due(clock::now()) {
            let told = |told| {
                if let Err(error) = told {
                    tracing::warn!(%error, "a count of denials was not recorded");
                }
            };
            let (record, answer) = (Arc::new(record), Answer::Then(Box::new(told)));
            self.queue.ask(Asked { record, sealed: None, answer });
        }
    }
}

impl End {
    /// What the node signs of it.
    pub fn head(&self, at: spiffe::Timestamp) -> Head {
        Head { node: self.node.clone(), spool: self.spool, seq: self.seq, hash: self.hash, at }
    }
}

/// Ends the writer when the last handle is gone, after what waits.
struct Last {
    queue: Arc<Queue>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Drop for Last {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(Err(_)) = self.writer.take().map(thread::JoinHandle::join) {
            tracing::error!("the thread of the audit records ended by itself");
        }
    }
}

#[cfg(test)]
mod tests;
