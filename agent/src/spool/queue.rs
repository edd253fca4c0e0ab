//! What waits for the writer: whoever asks adds to it, and never waits for a disk.

use std::{collections::VecDeque, io, path::PathBuf, sync::Arc, time::Instant};

use audit::{Record, Recorded, Sealed, spool::SpoolId};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{Unrecorded, segments::Segment};

/// Something to be recorded, and who is told.
pub(super) struct Asked {
    pub(super) record: Arc<Record>,
    pub(super) sealed: Option<Sealed>,
    pub(super) answer: Answer,
}

/// Something that has happened already, and who is told.
pub(super) struct Noted {
    pub(super) record: Arc<Record>,
    pub(super) answer: Answer,
}

/// Who is told what became of a record.
pub(super) enum Answer {
    Nobody,
    /// Somebody waits.
    Waits(oneshot::Sender<Told>),
    /// Nobody waits; this is done then, by the writer.
    Then(Box<dyn FnOnce(Told) + Send>),
}

pub(super) type Told = Result<Recorded, Unrecorded>;

/// What waits for the writer.
#[derive(Default)]
pub(super) struct Queue {
    /// Where the spool lies.
    pub(super) dir: PathBuf,
    pub(super) waiting: Mutex<Waiting>,
    pub(super) more: Condvar,
    /// Records up to this one are read by nobody here any more, if there is a reader.
    pub(super) digested: Mutex<Option<(SpoolId, u64)>>,
}

#[derive(Default)]
pub(super) struct Waiting {
    /// Since when there is something, if nobody waits for anything of it.
    pub(super) patient: Option<Instant>,
    pub(super) asked: VecDeque<Asked>,
    pub(super) notes: VecDeque<Noted>,
    pub(super) known: Option<String>,
    /// Why another spool must begin.
    pub(super) anew: Option<String>,
    pub(super) acknowledged: Option<(SpoolId, u64)>,
    /// A segment that was made, or could not be.
    pub(super) spare: Option<io::Result<Segment>>,
    pub(super) trouble: Option<Unrecorded>,
    pub(super) closed: bool,
}

impl Answer {
    pub(super) fn give(self, told: Told) {
        match self {
            Self::Nobody => {}
            Self::Waits(answer) => drop(answer.send(told)), // whoever waited may have gone
            Self::Then(then) => then(told),
        }
    }
}

impl Queue {
    pub(super) fn at(dir: PathBuf) -> Self {
        Self { dir, ..Self::default() }
    }

    /// Whoever is to be told hears of a refusal at once.
    pub(super) fn ask(&self, asked: Asked) {
        let mut waiting = self.waiting.lock();
        let refused = match waiting.trouble {
            _ if waiting.closed => Some(Unrecorded::Stopped),
            Some(trouble) => Some(trouble),
            None => (waiting.asked.len() >= MOST_WAITING).then_some(Unrecorded::Busy),
        };
        if let Some(why) = refused {
            drop(waiting);
            self.more.notify_one(); // perhaps there is room again
            return asked.answer.give(Err(why));
        }
        waiting.asked.push_back(asked);
        waiting.patient = None;
        self.more.notify_one();
    }

    pub(super) fn note(&self, noted: Noted) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            return noted.answer.give(Err(Unrecorded::Stopped));
        }
        waiting.notes.push_back(noted);
        waiting.patient = None;
        self.more.notify_one();
    }

    /// The same of what may wait a little for others.
    pub(super) fn note_later(&self, noted: Noted) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            return noted.answer.give(Err(Unrecorded::Stopped));
        }
        let is_first = waiting.asked.is_empty() && waiting.notes.is_empty();
        waiting.notes.push_back(noted);
        if is_first {
            waiting.patient = Some(Instant::now());
            self.more.notify_one();
        }
    }

    pub(super) fn know(&self, node: String) {
        self.waiting.lock().known = Some(node);
        self.more.notify_one();
    }

    pub(super) fn begin_anew(&self, why: String) {
        self.waiting.lock().anew = Some(why);
        self.more.notify_one();
    }

    pub(super) fn acknowledge(&self, spool: SpoolId, seq: u64) {
        self.waiting.lock().acknowledged = Some((spool, seq));
        self.more.notify_one();
    }

    /// Up to which record of this spool segments may go, of what the server has.
    pub(super) fn spendable(&self, spool: SpoolId, acknowledged: u64) -> u64 {
        match *self.digested.lock() {
            Some((of, seq)) if of == spool => acknowledged.min(seq),
            Some(_) => 0,
            None => acknowledged,
        }
    }

    pub(super) fn trouble(&self) -> Option<Unrecorded> {
        self.waiting.lock().trouble
    }

    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.more.notify_one();
    }
}

/// So many records wait at most; beyond that, whoever asks is refused.
const MOST_WAITING: usize = 8192;
