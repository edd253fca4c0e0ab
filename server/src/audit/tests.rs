use audit::{Chain, Head, Link, Placed, spool::SpoolId};
use registry::{LogId, objects::Sha256};
use spiffe::{PrivateKey, SpiffeId, Timestamp};
use store::NewEntry;

use super::{
    upload::{Begun, Broken, Coming, Upload},
    *,
};
use crate::callers::NodeCaller;

const SPOOL: SpoolId = SpoolId([1; 16]);

struct Here {
    dir: tempfile::TempDir,
    audit: Audit,
    key: PrivateKey,
    caller: NodeCaller,
}

fn start(dir: &Path, log: &str) -> Audit {
    let log = LogId(log.to_owned());
    Audit::start(dir, &"acme.example".parse().unwrap(), &log, &Metrics::default()).unwrap()
}

fn here() -> Here {
    let dir = tempfile::tempdir().unwrap();
    let audit = start(dir.path(), "log");
    let key = PrivateKey::generate().unwrap();
    let caller = NodeCaller {
        id: "spiffe://acme.example/spire/agent/join_token/web-1".parse().unwrap(),
        serial: "1".to_owned(),
        key_sha256: Sha256::of(&key.public_key().unwrap()),
        signer: "00".repeat(20).parse().unwrap(),
        not_after: Timestamp::from_unix_seconds(i64::MAX / 1000),
    };
    Here { dir, audit, key, caller }
}

/// So many records of a node's chain; `salt` makes it another history.
fn chain(node: &SpiffeId, records: u64, salt: &str) -> Vec<Link> {
    let mut chain = Chain::new(Some(node.to_string()));
    let link = |n: u64| {
        let reason = Some(format!("{salt} {n}"));
        let record = Record { reason, ..Record::new(Kind::Decision, Timestamp::from_unix_millis(n as i64)) };
        let link = chain.link(&record).unwrap();
        chain.take(&link);
        link
    };
    (0..records).map(link).collect()
}

fn coming(links: &[Link]) -> Vec<Coming> {
    links.iter().map(|link| Coming { leaf: link.leaf.clone(), sealed: Vec::new() }).collect()
}

impl Here {
    async fn begin(&self, spool: SpoolId, oldest: u64, newest: u64) -> (Upload, Begun) {
        Upload::begin(self.audit.clone(), &self.caller, spool, oldest, newest).await.unwrap()
    }

    fn entries(&self) -> Vec<Placed> {
        let reader = self.audit.reader().unwrap();
        let size = self.audit.published().borrow().size;
        reader.entries(0, size).unwrap().iter().map(|leaf| Placed::parse(leaf).unwrap()).collect()
    }

    fn alarms(&self) -> Vec<String> {
        let alarms = self.entries().into_iter().filter(|placed| placed.record.kind == Kind::AuditAlarm);
        alarms.filter_map(|placed| placed.record.reason).collect()
    }
}

#[tokio::test]
async fn a_nodes_records_become_entries_once_whatever_breaks_between() {
    let here = here();
    let links = chain(&here.caller.id, 100, "");
    let (mut upload, begun) = here.begin(SPOOL, 1, 100).await;
    assert_eq!(begun, Begun { next: 1, contradiction: None });
    assert_eq!(upload.take(coming(&links[..60])).await, Ok(60));
    // The acknowledgement is lost and the agent connects again; the former connection is still there.
    let (mut again, begun) = here.begin(SPOOL, 1, 100).await;
    assert_eq!(begun.next, 61);
    assert_eq!(again.take(coming(&links[60..])).await, Ok(100));
    let late = upload.take(coming(&links[60..])).await;
    assert_eq!(late, Err(Broken::NotAppended(NotAppended::Overtaken)));
    let seqs: Vec<u64> = here.entries().iter().map(|placed| placed.seq).collect();
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
    assert!(here.alarms().is_empty());
}

#[tokio::test]
async fn a_gap_a_cut_and_another_history_are_alarms_on_record() {
    let here = here();
    let (links, other) = (chain(&here.caller.id, 100, ""), chain(&here.caller.id, 100, "forged"));
    let (mut upload, _) = here.begin(SPOOL, 1, 50).await;
    upload.take(coming(&links[..50])).await.unwrap();
    // Two histories: what comes next does not follow what came.
    let forged = upload.take(coming(&other[50..60])).await;
    assert!(matches!(forged, Err(Broken::Contradiction(_))));
    // A spool that was put back ends before what was acknowledged.
    let (_, begun) = here.begin(SPOOL, 1, 30).await;
    assert!(begun.contradiction.is_some_and(|why| why.contains("put back or cut off")));
    // Records that are nowhere any more; what is left goes on.
    let (mut upload, begun) = here.begin(SPOOL, 81, 100).await;
    assert_eq!(begun, Begun { next: 81, contradiction: None });
    assert_eq!(upload.take(coming(&links[80..])).await, Ok(100));
    let alarms = here.alarms();
    assert_eq!(alarms.len(), 3, "{alarms:?}");
    assert!(alarms[0].contains("two histories") && alarms[2].contains("records 51 to 80"), "{alarms:?}");
}

#[tokio::test]
async fn a_head_holds_its_node_to_what_it_signed_for() {
    let here = here();
    let links = chain(&here.caller.id, 20, "");
    let public = here.key.public_key().unwrap();
    let head = |link: &Link| Head {
        node: here.caller.id.to_string(),
        spool: SPOOL,
        seq: link.seq,
        hash: link.hash,
        at: now(),
    };
    let (mut upload, _) = here.begin(SPOOL, 1, 20).await;
    upload.take(coming(&links[..10])).await.unwrap();
    let stranger = PrivateKey::generate().unwrap();
    let by_stranger = head(&links[9]).sign(&stranger).unwrap();
    let refused = upload.hear(by_stranger, &stranger.public_key().unwrap()).await;
    assert!(matches!(refused, Err(Broken::Nonsense(_))));
    upload.hear(head(&links[19]).sign(&here.key).unwrap(), &public).await.unwrap();
    // It has signed for record 20 and now sends another one.
    upload.take(coming(&links[10..19])).await.unwrap();
    let last = Chain::after(Some(here.caller.id.to_string()), 19, links[18].hash);
    let record = Record { reason: Some("forged".to_owned()), ..Record::new(Kind::Decision, now()) };
    let forged = last.link(&record).unwrap();
    assert!(matches!(upload.take(coming(&[forged])).await, Err(Broken::Contradiction(_))));
    // And it begins another spool without ever having sent record 20.
    let (_, begun) = here.begin(SpoolId([2; 16]), 1, 20).await;
    assert_eq!(begun.next, 1);
    let alarms = here.alarms();
    assert!(
        alarms.iter().any(|why| why.contains("records 20 to 20") && why.contains("never came")),
        "{alarms:?}"
    );
}

#[tokio::test]
async fn a_node_cannot_write_in_anothers_name_nor_nonsense() {
    let here = here();
    let other: SpiffeId = "spiffe://acme.example/spire/agent/join_token/web-2".parse().unwrap();
    let (mut upload, _) = here.begin(SPOOL, 1, 5).await;
    assert!(matches!(upload.take(coming(&chain(&other, 5, ""))).await, Err(Broken::Contradiction(_))));
    for leaf in [b"".to_vec(), b"{}".to_vec(), vec![b'x'; 70_000], br#"{"seq":7}"#.to_vec()] {
        let taken = upload.take(vec![Coming { leaf, sealed: Vec::new() }]).await;
        assert!(taken.is_err());
    }
    let long = Coming { leaf: chain(&here.caller.id, 1, "")[0].leaf.clone(), sealed: vec![0; 1 << 20] };
    assert!(matches!(upload.take(vec![long]).await, Err(Broken::Nonsense(_))));
    assert!(here.entries().iter().all(|placed| placed.record.kind == Kind::AuditAlarm));
}

#[tokio::test]
async fn a_restored_log_goes_on_under_another_origin_and_says_from_which() {
    let here = here();
    let entry = New::Leaf(NewEntry { leaf: b"{}".to_vec(), sealed: Vec::new() });
    here.audit.append(vec![entry], None).await.unwrap();
    let before = here.audit.published().borrow().note.clone();
    let again = start(here.dir.path(), "log");
    assert_eq!(again.published().borrow().note, before, "a restart signs the same");
    let restored = start(here.dir.path(), "another-log");
    assert_ne!(restored.verifier(), here.audit.verifier());
    let leaves = restored.reader().unwrap().entries(1, 2).unwrap();
    let said = Placed::parse(&leaves[0]).unwrap().record;
    assert_eq!(said.kind, Kind::AuditRestore);
    assert!(said.reason.unwrap().contains("acme.example/audit/log with 1 entries"));
}

#[tokio::test]
async fn without_its_key_an_audit_log_is_not_given_another() {
    let here = here();
    std::fs::remove_file(here.dir.path().join(KEY)).unwrap();
    let log = LogId("log".to_owned());
    let refused = Audit::start(here.dir.path(), &"acme.example".parse().unwrap(), &log, &Metrics::default());
    assert!(refused.err().unwrap().to_string().contains("is missing"));
}
