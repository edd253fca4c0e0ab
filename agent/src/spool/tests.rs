use std::{fs, os::unix::fs::FileExt as _, path::Path};

use audit::{Kind, Placed};
use spiffe::{PrivateKey, Timestamp};

use super::*;

const NODE: &str = "spiffe://acme.example/spire/agent/join_token/web-1";

fn small(dir: &Path) -> Terms {
    Terms { segment: 64 * 1024, ..Terms::new(dir.join("spool")) }
}

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

fn record(n: u64) -> Record {
    Record {
        task: Some(format!("task-{n}")),
        reason: Some("x".repeat(200)),
        ..Record::new(Kind::Decision, Timestamp::from_unix_millis(n as i64))
    }
}

fn all(spool: &Spool) -> Vec<Placed> {
    let mut reader = spool.reader(0);
    let mut placed = Vec::new();
    loop {
        let read = reader.next(10_000).unwrap();
        if read.is_empty() {
            return placed;
        }
        placed.extend(read.iter().map(|spooled| Placed::parse(&spooled.leaf).unwrap()));
    }
}

#[tokio::test]
async fn what_is_recorded_is_there_after_a_restart_and_the_chain_goes_on() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let mut head = audit::Hash::default();
    for round in 0..3 {
        let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
        for n in 0..500 {
            let recorded = spool.record(record(n)).await.unwrap();
            assert_eq!(recorded.seq(), round * 500 + n + 2, "after the record of the beginning");
            head = recorded.hash();
        }
        assert_eq!(spool.end().borrow().hash, head);
    }
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    let placed = all(&spool);
    assert_eq!((placed.len(), placed[0].record.kind), (1501, Kind::SpoolBegin));
    assert!(placed.iter().zip(1..).all(|(placed, seq)| placed.seq == seq));
    assert!(placed.iter().all(|placed| placed.node.as_deref() == Some(NODE)));
}

#[tokio::test]
async fn before_a_node_has_its_name_nothing_is_permitted_and_an_ending_waits() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let spool = Spool::open(small(dir.path()), None, &key).unwrap();
    assert_eq!(spool.record(record(1)).await, Err(Unrecorded::Nameless));
    spool.note(record(2));
    let mut end = spool.end();
    spool.know(NODE);
    end.wait_for(|end| end.seq == 2).await.unwrap();
    assert_eq!(spool.record(record(3)).await.unwrap().seq(), 3);
    spool.know("spiffe://acme.example/spire/agent/join_token/web-2");
    end.wait_for(|end| end.node.ends_with("web-2") && end.seq == 1).await.unwrap();
    assert!(all(&spool)[0].record.reason.as_deref().unwrap().contains("web-1"));
}

#[tokio::test]
async fn what_the_server_has_is_deleted_and_the_rest_is_kept() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    let mut last = 0;
    for n in 0..1000 {
        last = spool.record(record(n)).await.unwrap().seq();
    }
    let id = spool.end().borrow().spool;
    assert_eq!(spool.oldest(), 1);
    spool.acknowledge(id, 600);
    spool.record(record(0)).await.unwrap(); // the writer has heard of it
    let oldest = spool.oldest();
    assert!(oldest > 300 && oldest <= 601, "{oldest}");
    drop(spool);
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    assert_eq!(spool.end().borrow().seq, last + 1);
    assert_eq!(spool.reader(0).next(1).unwrap()[0].seq, oldest);
}

#[tokio::test]
async fn what_somebody_altered_is_set_aside_and_named() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    for n in 0..50 {
        spool.record(record(n)).await.unwrap();
    }
    let path = segments::list(&dir.path().join("spool")).unwrap()[0].1.clone();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"y", 5000).unwrap();
    drop(spool);
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    let mut end = spool.end();
    end.wait_for(|end| end.seq == 1).await.unwrap();
    let reason = all(&spool)[0].record.reason.clone().unwrap();
    assert!(reason.contains("was altered outside of writ: record") && reason.contains("aside-"), "{reason}");
}

#[tokio::test]
async fn a_spool_that_lost_its_end_is_known_by_the_head_that_was_signed() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    for n in 0..50 {
        spool.record(record(n)).await.unwrap();
    }
    let (heads, mut signed) = watch::channel(None);
    let at = dir.path().join("spool");
    let signing = {
        let (spool, key) = (spool.clone(), key.clone());
        tokio::spawn(async move { spool.sign_heads(|| key.clone(), heads).await })
    };
    signed.wait_for(Option::is_some).await.unwrap();
    signing.abort();
    let _ = signing.await;
    drop(spool);
    let path = segments::list(&at).unwrap()[0].1.clone();
    let bytes = fs::read(&path).unwrap();
    let cut = bytes.iter().rposition(|byte| *byte != 0).unwrap() - 700;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; bytes.len() - cut], cut as u64).unwrap();
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    spool.end().wait_for(|end| end.seq == 1).await.unwrap();
    let reason = all(&spool)[0].record.reason.clone().unwrap();
    assert!(reason.contains("the end is missing from record 50 on"), "{reason}");
}

#[tokio::test]
async fn without_room_nothing_is_permitted_endings_are_noted_and_later_it_goes_on() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let terms = Terms { most: 6 * 64 * 1024, ..small(dir.path()) };
    let spool = Spool::open(terms, Some(NODE), &key).unwrap();
    let mut last = 0;
    let refused = loop {
        match spool.record(record(last)).await {
            Ok(recorded) => last = recorded.seq(),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Unrecorded::Full);
    assert!(last > 300, "{last}");
    let mut end = spool.end();
    for n in 0..100 {
        spool.note(Record { kind: Kind::TaskEnd, ..record(n) });
    }
    end.wait_for(|end| end.seq >= last + 100).await.unwrap();
    assert_eq!(spool.record(record(0)).await, Err(Unrecorded::Full));
    let id = end.borrow().spool;
    spool.acknowledge(id, last);
    end.wait_for(|end| end.seq >= last + 102).await.unwrap(); // full, and room again
    spool.record(record(0)).await.unwrap();
    let kinds: Vec<Kind> = all(&spool).iter().map(|placed| placed.record.kind).collect();
    assert!(kinds.contains(&Kind::SpoolFull) && kinds.contains(&Kind::SpoolRoom));
    assert!(kinds.iter().filter(|kind| **kind == Kind::TaskEnd).count() >= 90);
}

#[tokio::test]
async fn a_tenant_that_has_used_up_its_share_is_stopped_and_no_other() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let terms = Terms { share: 3 * 64 * 1024, ..small(dir.path()) };
    let of = |tenant: &str, n| Record { tenant: Some(tenant.to_owned()), ..record(n) };
    let mut spool = Spool::open(terms.clone(), Some(NODE), &key).unwrap();
    let mut last = 0;
    while spool.record(of("loud", last)).await.is_ok() {
        last += 1;
    }
    assert!((300..600).contains(&last), "{last}");
    for _ in 0..2 {
        assert_eq!(spool.record(of("loud", 0)).await, Err(Unrecorded::Share));
        assert_eq!(spool.trouble(), None, "nobody else is troubled");
        spool.record(of("quiet", 1)).await.unwrap();
        let mut end = spool.end();
        let before = end.borrow().seq;
        spool.note(Record { kind: Kind::TaskEnd, ..of("loud", 2) });
        end.wait_for(|end| end.seq > before).await.unwrap();
        drop(spool);
        spool = Spool::open(terms.clone(), Some(NODE), &key).unwrap(); // it is known after a restart
    }
    assert_eq!(spool.record(of("loud", 0)).await, Err(Unrecorded::Share));
    let id = spool.end().borrow().spool;
    spool.acknowledge(id, last / 2);
    spool.record(of("loud", 3)).await.unwrap();
    let told = |kind| all(&spool).iter().filter(|placed| placed.record.kind == kind).count();
    assert_eq!((told(Kind::SpoolFull), told(Kind::SpoolRoom)), (3, 1), "once in each life of the agent");
}

#[tokio::test]
async fn a_record_that_is_too_long_is_refused_and_an_ending_is_shortened() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    let long = Record { reason: Some("x".repeat(audit::MAX_RECORD)), ..record(1) };
    assert_eq!(spool.record(long.clone()).await, Err(Unrecorded::TooLong));
    spool.note(long);
    spool.end().wait_for(|end| end.seq == 2).await.unwrap();
    assert_eq!(all(&spool)[1].record.task.as_deref(), Some("task-1"));
}

#[tokio::test]
async fn what_may_wait_is_written_soon_or_with_what_may_not() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    let mut end = spool.end();
    spool.note_later(record(1), |noted| assert_eq!(noted.unwrap().seq(), 2));
    end.wait_for(|end| end.seq == 2).await.unwrap(); // by itself
    for n in 0..100 {
        spool.note_later(record(n), |noted| assert!(noted.is_ok()));
    }
    assert_eq!(spool.record(record(0)).await.unwrap().seq(), 103, "behind what came before it");
    assert_eq!(all(&spool).len(), 103);
}

#[tokio::test]
async fn one_task_denied_100_000_times_leaves_a_bounded_log() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let spool = Spool::open(small(dir.path()), Some(NODE), &key).unwrap();
    for _ in 0..100_000 {
        spool.deny(record(1)).await.unwrap();
    }
    spool.sum_up();
    let last = spool.record(record(2)).await.unwrap().seq();
    assert!(last < 200, "{last} records");
    let counted: u64 = all(&spool).iter().filter_map(|placed| placed.record.count).sum();
    let single = all(&spool).iter().filter(|placed| placed.record.kind == Kind::Decision).count() as u64 - 1;
    assert_eq!(counted + single, 100_000);
}
