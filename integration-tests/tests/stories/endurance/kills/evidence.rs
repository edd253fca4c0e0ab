//! What the audit log says of all those permits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use integration_tests::admin::channel;
use proto::writ::audit::v1::EntriesRequest;
use proto::writ::audit::v1::audit_client::AuditClient;
use serde_json::Value;

use super::Heard;
use crate::endurance::Ground;

/// How long an agent may take to upload what it has, and to say that what it lost sight of is unknown.
const UPLOADED: Duration = Duration::from_secs(60);

/// The records of the one node, as the server merged them.
#[derive(Debug, Default)]
pub(in crate::endurance) struct Evidence {
    /// Numbers of the records of permits, with their task and their place in its order.
    permits: BTreeMap<u64, (String, u64)>,
    /// What became of each, by task and place.
    outcomes: BTreeMap<(String, u64), Vec<String>>,
    /// Numbers of all records, in the order in which they were merged.
    numbers: Vec<u64>,
    alarms: Vec<Value>,
    spools: usize,
    /// Tasks that have ended, and whether they are closed.
    ended: BTreeMap<String, bool>,
    /// Everything that is said of permits and outcomes, to show what contradicts.
    said: BTreeMap<(String, u64), Vec<String>>,
}

impl Evidence {
    /// Reads until these permits are there, an outcome of each that is, and the close of each task that has ended.
    pub(in crate::endurance) async fn with(
        ground: &Ground,
        permits: impl Iterator<Item = &(String, u64)>,
    ) -> Self {
        let wanted: BTreeSet<u64> = permits.map(|(_, seq)| *seq).collect();
        let mut audit = AuditClient::new(channel(&ground.server.socket()));
        let (mut evidence, mut from, end) = (Self::default(), 0, Instant::now() + UPLOADED);
        loop {
            let request = EntriesRequest { from, ..EntriesRequest::default() };
            let mut pages = audit.entries(request).await.expect("an administrator may read").into_inner();
            while let Some(page) = pages.message().await.expect("it is read to its end") {
                from = page.first + page.leaves.len() as u64;
                page.leaves.iter().for_each(|leaf| evidence.take(leaf));
            }
            let is_there = wanted.iter().all(|seq| evidence.permits.contains_key(seq));
            let is_closed = evidence.permits.values().all(|place| evidence.outcomes.contains_key(place));
            if is_there && is_closed && evidence.ended.values().all(|closed| *closed) {
                return evidence;
            }
            let missing: Vec<_> = wanted.iter().filter(|seq| !evidence.permits.contains_key(seq)).collect();
            let open =
                evidence.permits.values().filter(|place| !evidence.outcomes.contains_key(*place)).count();
            assert!(
                Instant::now() < end,
                "lost: {missing:?}; without an outcome: {open}; closed: {:?}\n{}",
                evidence.ended,
                ground.agent.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn take(&mut self, leaf: &[u8]) {
        let record: Value = serde_json::from_slice(leaf).expect("a record is JSON");
        if record["kind"] == "audit.alarm" {
            self.alarms.push(record);
            return;
        }
        let (true, Some(seq)) = (record["node"].is_string(), record["seq"].as_u64()) else { return };
        self.numbers.push(seq);
        let place = || Some((record["task"].as_str()?.to_owned(), record["task_seq"].as_u64()?));
        if let Some(place) = place() {
            let said = format!(
                "{seq} {} {} {} {}",
                record["time"], record["kind"], record["decision"], record["outcome"]
            );
            self.said.entry(place).or_default().push(said);
        }
        let task = record["task"].as_str().unwrap_or_default();
        let is_closed = self.ended.get(task).copied();
        match record["kind"].as_str() {
            Some("task.end") => {
                assert_eq!(self.ended.insert(task.to_owned(), false), None, "a task ends once")
            }
            Some("task.close") => {
                assert_eq!(is_closed, Some(false), "a task is closed once, after its end");
                self.ended.insert(task.to_owned(), true);
            }
            Some("decision" | "outcome") if is_closed == Some(true) => {
                panic!("a closed task does something: {record}");
            }
            Some("decision") if record["decision"] == "allow" => {
                let again = self.permits.insert(seq, place().expect("a permit is of a task"));
                assert_eq!(again, None, "a record has one place");
            }
            Some("outcome") => {
                let outcome = record["outcome"].as_str().unwrap_or_default().to_owned();
                self.outcomes.entry(place().expect("an outcome is of a task")).or_default().push(outcome);
            }
            Some("spool.begin") => self.spools += 1,
            _ => {}
        }
    }

    /// Each permit that was answered is there, for that task, and each outcome that was acknowledged.
    pub(super) fn holds(&self, heard: &Heard) {
        for (task, seq) in &heard.permits {
            assert_eq!(
                self.permits.get(seq).map(|(of, _)| of),
                Some(task),
                "the permit of record {seq} is lost"
            );
        }
        for (task, seq, is_change) in &heard.released {
            let outcomes = &self.outcomes[&self.permits[seq]];
            let said = &self.said[&self.permits[seq]];
            // That of a read may not have reached the disk.
            let may_be = outcomes == &["executed"] || !is_change && outcomes == &["unknown"];
            assert!(may_be, "the outcome of record {seq} of {task} is {outcomes:?}: {said:#?}");
        }
    }

    /// One history without gaps, one outcome of each permit, and nothing for an alarm.
    pub(in crate::endurance) fn is_whole(&self) {
        assert_eq!(self.alarms, Vec::<Value>::new());
        assert!(self.spools <= 1, "another spool has begun");
        let places: BTreeSet<_> = self.permits.values().collect();
        assert_eq!(places.len(), self.permits.len(), "two permits of a task have one place in its order");
        for (place, seq) in self.numbers.iter().enumerate() {
            assert_eq!(*seq, place as u64 + 1, "a record is missing or comes twice");
        }
        for (place, outcomes) in &self.outcomes {
            let said = &self.said[place];
            assert_eq!(outcomes.len(), 1, "{place:?} has another number of outcomes than one: {said:#?}");
        }
    }
}
