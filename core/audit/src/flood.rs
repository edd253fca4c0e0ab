//! Floods are counted, not multiplied: what is denied to one task is recorded singly up to a budget, and
//! then as one counted record a second. What is denied to nobody known is only ever counted.

use std::{collections::HashMap, time::Duration};

use spiffe::Timestamp;

use crate::{Kind, Record, record::Decision};

/// What has been denied of late, and to whom.
#[derive(Debug)]
pub struct Floods {
    terms: Terms,
    tasks: HashMap<String, Flood>,
    /// Of callers that no task is known of, and of tasks beyond those that are followed.
    others: Flood,
}

/// How much is recorded singly.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// So many denials of a task in a row are recorded singly.
    pub budget: u32,
    /// One more becomes single again after each such time.
    pub refill: Duration,
    /// So many tasks are followed at once; the denials of further ones are counted together.
    pub tasks: usize,
}

/// What to do with a denial.
#[derive(Clone, Debug, PartialEq)]
pub enum Recording {
    /// Record it.
    Single(Box<Record>),
    /// It is counted, and will be recorded with others.
    Counted,
}

#[derive(Debug, Default)]
struct Flood {
    spent: u32,
    /// When the budget was last looked at.
    seen: Timestamp,
    count: u64,
    /// The newest of those that are counted, which speaks for them.
    newest: Option<Box<Record>>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { budget: 100, refill: Duration::from_secs(1), tasks: 4096 }
    }
}

impl Floods {
    /// Nothing was denied yet.
    pub fn new(terms: Terms) -> Self {
        Self { terms, tasks: HashMap::new(), others: Flood::default() }
    }

    /// Takes a denial. One without a task is somebody's of whom nothing is known.
    pub fn denied(&mut self, record: Record, now: Timestamp) -> Recording {
        let Terms { budget, refill, tasks } = self.terms;
        let Some(task) = record.task.as_deref() else {
            self.others.count(record);
            return Recording::Counted;
        };
        if !self.tasks.contains_key(task) {
            if self.tasks.len() >= tasks {
                self.others.count(record);
                return Recording::Counted;
            }
            self.tasks.insert(task.to_owned(), Flood { seen: now, ..Flood::default() });
        }
        let Some(flood) = self.tasks.get_mut(task) else { return Recording::Counted };
        flood.refill(refill, now);
        if flood.spent < budget {
            flood.spent += 1;
            return Recording::Single(Box::new(record));
        }
        flood.count(record);
        Recording::Counted
    }

    /// The counted records that are due; asked for once a second.
    pub fn due(&mut self, now: Timestamp) -> Vec<Record> {
        let refill = self.terms.refill;
        let mut due: Vec<_> = self.tasks.values_mut().filter_map(|flood| flood.take(now)).collect();
        due.extend(self.others.take(now));
        self.tasks.retain(|_, flood| {
            flood.refill(refill, now);
            flood.spent > 0 || flood.count > 0
        });
        due
    }
}

impl Flood {
    fn refill(&mut self, every: Duration, now: Timestamp) {
        let passed = now.since(self.seen).as_millis() / every.as_millis().max(1);
        if passed > 0 {
            self.spent = self.spent.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            self.seen = now;
        }
    }

    fn count(&mut self, record: Record) {
        self.count += 1;
        self.newest = Some(Box::new(record));
    }

    fn take(&mut self, now: Timestamp) -> Option<Record> {
        let newest = self.newest.take()?;
        let count = std::mem::take(&mut self.count);
        Some(Record {
            kind: Kind::Denials,
            time: now,
            count: Some(count),
            decision: Some(Decision::Deny),
            personal: None,
            args_digest: None,
            ..*newest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(task: Option<&str>) -> Record {
        Record { task: task.map(str::to_owned), ..Record::new(Kind::Decision, Timestamp::default()) }
    }

    #[test]
    fn beyond_its_budget_a_tasks_denials_become_one_record_a_second_and_none_is_lost() {
        let mut floods = Floods::new(Terms { budget: 10, ..Terms::default() });
        let (mut singles, mut counted) = (0, 0);
        for step in 0..100_000_u64 {
            let now = Timestamp::from_unix_millis(step as i64 / 10);
            match floods.denied(denial(Some("t")), now) {
                Recording::Single(_) => singles += 1,
                Recording::Counted => {}
            }
            if step % 10_000 == 9_999 {
                let due = floods.due(now);
                assert!(due.len() <= 1 && due.iter().all(|record| record.kind == Kind::Denials));
                counted += due.iter().filter_map(|record| record.count).sum::<u64>();
            }
        }
        assert_eq!(singles + counted, 100_000);
        assert!(singles <= 20, "{singles}: the budget, and one more each second");
    }

    #[test]
    fn one_tasks_flood_leaves_the_others_their_single_records() {
        let mut floods = Floods::new(Terms { budget: 1, ..Terms::default() });
        let now = Timestamp::from_unix_seconds(1);
        for _ in 0..100 {
            floods.denied(denial(Some("loud")), now);
        }
        assert!(matches!(floods.denied(denial(Some("quiet")), now), Recording::Single(_)));
    }

    #[test]
    fn strangers_are_only_counted_and_what_is_followed_is_bounded() {
        let mut floods = Floods::new(Terms { tasks: 2, ..Terms::default() });
        let now = Timestamp::from_unix_seconds(1);
        assert_eq!(floods.denied(denial(None), now), Recording::Counted);
        for task in ["a", "b", "c", "d"] {
            floods.denied(denial(Some(task)), now);
        }
        let due = floods.due(now);
        assert_eq!(due.iter().map(|record| record.count).collect::<Vec<_>>(), [Some(3)]);
        let later = now + Duration::from_secs(60);
        assert!(floods.due(later).is_empty() && floods.tasks.is_empty(), "who is quiet is forgotten");
    }
}
