//! The writer: one thread owns the audit log. What waits is appended as one group, with one checkpoint.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc, thread};

use audit::{
    Hash, Kind, Record,
    tree::{Checkpoint, MAX_ENTRY},
};
use daemon::{Counter, Metrics};
use store::{AuditLog, Batch, NewEntry, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

use super::{AuditError, AuditKey, New, NotAppended, Published, Step};
use crate::{ledger::Unavailable, now};

/// What the writer is asked for.
pub(super) enum Message {
    Append { entries: Vec<New>, step: Option<Step>, answer: oneshot::Sender<Result<(), NotAppended>> },
    Erase { index: u64, record: Box<Record>, answer: oneshot::Sender<Result<bool, Unavailable>> },
    BackUp { to: PathBuf, answer: oneshot::Sender<Result<(), Unavailable>> },
}

pub(super) struct Writer {
    log: AuditLog,
    key: Arc<AuditKey>,
    origin: String,
    publish: watch::Sender<Published>,
    appended: Counter,
}

type Answer = oneshot::Sender<Result<(), NotAppended>>;

impl Writer {
    /// A writer of this log, which gets its first checkpoint under this origin. Where it had another one,
    /// it is a copy that goes on, and says so first.
    pub(super) fn new(
        log: AuditLog,
        key: Arc<AuditKey>,
        origin: String,
        publish: watch::Sender<Published>,
        metrics: &Metrics,
    ) -> Result<Self, AuditError> {
        let help = "Entries appended to the audit log.";
        let appended = metrics.counter("writ_server_audit_entries_total", help, &[]);
        let mut writer = Self { log, key, origin, publish, appended };
        let before = writer.log.meta(ORIGIN)?.and_then(|origin| String::from_utf8(origin).ok());
        writer.is_as_signed()?;
        let mut batch = Batch::default();
        if let Some(before) = before.as_ref().filter(|before| **before != writer.origin) {
            let (size, root) = (writer.log.size(), writer.log.root());
            let why = format!("goes on from {before} with {size} entries and the root {root}");
            let record = Record { reason: Some(why), ..Record::new(Kind::AuditRestore, now()) };
            batch.entries.push(own(&record, size));
        }
        if before.as_ref() != Some(&writer.origin) {
            writer.log.set_meta(ORIGIN, writer.origin.as_bytes())?;
        }
        writer.write(&batch)?;
        Ok(writer)
    }

    /// Whether the log is what its newest checkpoint was signed for. Another one that is not looked at would be signed
    /// here and now, and nobody could tell any more.
    fn is_as_signed(&self) -> Result<(), AuditError> {
        let Some(note) = self.log.checkpoint()? else { return Ok(()) }; // nothing was signed yet
        let tampered = |what: String| AuditError::Store(StoreError::Tampered { what });
        let origin = note.lines().next().unwrap_or_default(); // a restored one has another than this log
        let signed = self.key.note().verifier(origin).and_then(|key| Checkpoint::open(&note, &key));
        let signed = signed
            .map_err(|error| tampered(format!("the checkpoint of the audit log does not hold: {error}")))?;
        let (size, root) = (self.log.size(), self.log.root());
        if (signed.size, signed.root) == (size, root) {
            return Ok(());
        }
        let what = format!(
            "the audit log has {size} entries and the root {root}, and {} with the root {} were signed",
            signed.size, signed.root
        );
        Err(tampered(what))
    }

    pub(super) fn start(mut self, mut messages: mpsc::Receiver<Message>) -> io::Result<()> {
        let run = move || {
            let mut next = None;
            while let Some(message) = next.take().or_else(|| messages.blocking_recv()) {
                match message {
                    Message::Append { .. } => next = self.group(message, &mut messages),
                    Message::Erase { index, record, answer } => {
                        let batch =
                            Batch { entries: vec![own(&record, self.log.size())], ..Batch::default() };
                        let (key, origin) = (self.key.clone(), self.origin.clone());
                        let mut note = String::new();
                        let erased = self.log.erase(index, &batch, |size, root| {
                            note = sign(&key, &origin, size, root);
                            note.clone()
                        });
                        if !note.is_empty() {
                            self.publish.send_replace(Published { size: self.log.size(), note });
                        }
                        let _ = answer.send(erased.map_err(|error| Unavailable(error.to_string())));
                    }
                    Message::BackUp { to, answer } => {
                        let copied = self.log.backup(&to);
                        let _ = answer.send(copied.map_err(|error| Unavailable(error.to_string())));
                    }
                }
            }
        };
        thread::Builder::new().name("writ-audit".to_owned()).spawn(run).map(drop)
    }

    /// Appends what waits until the group is full or something else is next.
    fn group(&mut self, first: Message, messages: &mut mpsc::Receiver<Message>) -> Option<Message> {
        let (mut batch, mut answers) = (Batch::default(), Vec::new());
        let mut cursors: HashMap<String, Vec<u8>> = HashMap::new();
        let mut next = Some(first);
        while let Some(Message::Append { entries, step, answer }) = next.take() {
            match self.follows(step.as_ref(), &cursors) {
                Ok(true) => {
                    if let Some(Step { source, to, .. }) = step {
                        cursors.insert(source, to);
                    }
                    let size = self.log.size();
                    for entry in entries {
                        let index = size + batch.entries.len() as u64;
                        batch.entries.push(match entry {
                            New::Leaf(entry) => bounded(entry),
                            New::Own(record) => own(&record, index),
                        });
                    }
                    answers.push(answer);
                }
                Ok(false) => drop(answer.send(Err(NotAppended::Overtaken))),
                Err(error) => drop(answer.send(Err(NotAppended::Unavailable(error.to_string())))),
            }
            if batch.entries.len() >= MOST_ENTRIES {
                break;
            }
            match messages.try_recv() {
                Ok(message @ Message::Append { .. }) => next = Some(message),
                Ok(other) => {
                    batch.cursors = cursors.into_iter().collect();
                    self.commit(&batch, answers);
                    return Some(other);
                }
                Err(_) => break,
            }
        }
        batch.cursors = cursors.into_iter().collect();
        self.commit(&batch, answers);
        None
    }

    fn follows(&self, step: Option<&Step>, cursors: &HashMap<String, Vec<u8>>) -> Result<bool, StoreError> {
        let Some(step) = step else { return Ok(true) };
        let at = match cursors.get(&step.source) {
            Some(cursor) => Some(cursor.clone()),
            None => self.log.cursor(&step.source)?,
        };
        Ok(at == step.from)
    }

    fn commit(&mut self, batch: &Batch, answers: Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        let written = self.write(batch).map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written; nodes keep their records until it can");
            NotAppended::Unavailable(error.to_string())
        });
        for answer in answers {
            let _ = answer.send(written.clone()); // whoever asked may have gone
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let (key, origin) = (&self.key, &self.origin);
        let note = self.log.append(batch, |size, root| sign(key, origin, size, root))?;
        self.appended.add(batch.entries.len() as u64);
        self.publish.send_replace(Published { size: self.log.size(), note });
        Ok(())
    }
}

fn sign(key: &AuditKey, origin: &str, size: u64, root: Hash) -> String {
    let checkpoint = Checkpoint { origin: origin.to_owned(), size, root };
    checkpoint.sign(key.note()).expect("the origin named the key when the log was opened")
}

/// A record of the log's own, at this index.
fn own(record: &Record, index: u64) -> NewEntry {
    let leaf = record.leaf(index, None, None).or_else(|_| record.shortened().leaf(index, None, None));
    NewEntry { leaf: leaf.unwrap_or_default(), sealed: Vec::new() }
}

/// A bundle's entry has 65,535 bytes at most. A commit that says more stays whole in the log of objects,
/// and is named here by its hash.
fn bounded(entry: NewEntry) -> NewEntry {
    if entry.leaf.len() <= MAX_ENTRY {
        return entry;
    }
    let (hash, bytes) = (Hash::leaf(&entry.leaf), entry.leaf.len());
    let leaf = format!(r#"{{"bytes":{bytes},"hash":"{hash}","kind":"oversized"}}"#);
    NewEntry { leaf: leaf.into_bytes(), sealed: entry.sealed }
}

const ORIGIN: &str = "origin";
const MOST_ENTRIES: usize = 4096;
