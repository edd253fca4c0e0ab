//! From a task's end to its close: it is closed, on record, when every call of it has an outcome and the server knows
//! that it has ended.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use audit::{Kind, Record};
use parking_lot::Mutex;

use crate::clock;

/// Tasks that have ended and are not closed, by their names.
#[derive(Debug, Default)]
pub(crate) struct Closings(Mutex<BTreeMap<String, Ended>>);

#[derive(Debug)]
struct Ended {
    /// What was recorded of the end.
    record: Record,
    at: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Ended,
    /// Its close is being recorded.
    Closing,
    /// It is closed, in the record of this number.
    Closed(u64),
    /// The server is being told.
    Told,
}

impl Closings {
    /// A task has ended, and this was recorded of it.
    pub(crate) fn ended(&self, record: Record) {
        let Some(task) = record.task.clone() else { return };
        self.0.lock().entry(task).or_insert(Ended { record, at: Instant::now(), stage: Stage::Ended });
    }

    /// Whether it has ended and the server does not know yet that it is closed.
    pub(crate) fn has(&self, task: &str) -> bool {
        self.0.lock().contains_key(task)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// What was recorded of all ends that no durable record closes.
    pub(crate) fn open(&self) -> Vec<Record> {
        let all = self.0.lock();
        let open = all.values().filter(|ended| matches!(ended.stage, Stage::Ended | Stage::Closing));
        open.map(|ended| ended.record.clone()).collect()
    }

    /// Closes those that may be: gives back what is to be recorded of each.
    pub(crate) fn close(&self, may: impl Fn(&str) -> bool) -> Vec<Record> {
        let mut all = self.0.lock();
        let is_due = |ended: &Ended| ended.stage == Stage::Ended && ended.at.elapsed() >= UNDER_WAY;
        let closing = all.iter_mut().filter(|(task, ended)| is_due(ended) && may(task));
        let closed = |(_, ended): (&String, &mut Ended)| {
            ended.stage = Stage::Closing;
            let record = ended.record.clone();
            Record { kind: Kind::TaskClose, time: clock::now(), reason: None, ..record }
        };
        closing.map(closed).collect()
    }

    /// That is durable in the record of this number; where there is none, it will be tried again.
    pub(crate) fn closed(&self, task: &str, seq: Option<u64>) {
        if let Some(ended) = self.0.lock().get_mut(task) {
            ended.stage = seq.map_or(Stage::Ended, Stage::Closed);
        }
    }

    /// Of which the server is to be told: it has the records up to the close.
    pub(crate) fn to_tell(&self, has: impl Fn(u64) -> bool) -> Vec<String> {
        let mut all = self.0.lock();
        let due = all.iter_mut().filter(|(_, ended)| matches!(ended.stage, Stage::Closed(seq) if has(seq)));
        let told = |(task, ended): (&String, &mut Ended)| {
            ended.stage = Stage::Told;
            task.clone()
        };
        due.map(told).collect()
    }

    /// The server knows.
    pub(crate) fn forget(&self, task: &str) {
        self.0.lock().remove(task);
    }
}

/// A call that was judged before the end is known as one, or refused, within this time.
const UNDER_WAY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_closed_once_when_nothing_of_it_is_open() {
        let closings = Closings::default();
        let end = Record { task: Some("a".into()), ..Record::new(Kind::TaskEnd, clock::now()) };
        closings.ended(end.clone());
        assert!(closings.close(|_| true).is_empty(), "what was judged before may be under way");
        std::thread::sleep(UNDER_WAY);
        assert!(closings.close(|_| false).is_empty());
        assert_eq!(closings.close(|task| task == "a")[0].kind, Kind::TaskClose);
        assert!(closings.close(|_| true).is_empty(), "it is being recorded");
        closings.closed("a", None);
        assert_eq!(closings.close(|_| true).len(), 1);
        assert!(closings.has("a") && closings.open() == [end]);
        closings.closed("a", Some(7));
        assert!(closings.has("a") && closings.open().is_empty());
        assert!(closings.to_tell(|seq| seq < 7).is_empty(), "the server has not all of it");
        assert_eq!(closings.to_tell(|seq| seq <= 7), ["a"]);
        assert!(closings.to_tell(|_| true).is_empty(), "it is being told");
        closings.forget("a");
        assert!(closings.is_empty());
    }
}
