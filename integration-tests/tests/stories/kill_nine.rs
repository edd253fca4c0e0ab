//! Kill -9 of server and agent at random points under load.
//!
//! Fifty cycles here; `cargo xtask kill-test --cycles 10000` for more. `WRIT_KILL_SEED` repeats the
//! points of an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use integration_tests::Folder;
use integration_tests::admin::Admin;
use integration_tests::daemon::{Agent, Server};
use integration_tests::workload::Workload;
use registry::objects::Key;
use registry::{Change, Commit, Revision};
use store::{Log as _, MacKey, Sqlite, StoreError};
use tokio::time::timeout;

use crate::own_uid;

const WRITERS: u64 = 4;

const NODE: &str = "spiffe://writ.local/spire/agent/join_token/node";

/// How long both may take to serve again on a loaded machine.
const BACK: Duration = Duration::from_secs(30);

/// What one writer heard from the server, in the order in which it heard it.
#[derive(Debug, Default)]
struct Heard {
    created: Vec<String>,
    deleted: BTreeSet<String>,
    /// Asked to be deleted, without an answer.
    open: BTreeSet<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_no_revision_is_skipped_or_reused() {
    let cycles: u64 = env::var("WRIT_KILL_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let mut random = Random::new();
    let mut server = Server::start("");
    let mut agent = Agent::join(&server, "node", Folder::new());
    let mut admin = Admin::at(&server.socket());
    admin.create("spiffe://writ.local/steady", NODE, &own_uid()).await.expect("it is accepted");
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..WRITERS).map(|number| tokio::spawn(write(number, admin.clone(), Arc::clone(&over)))).collect();

    for cycle in 0..cycles {
        tokio::time::sleep(Duration::from_micros(random.below(150_000))).await;
        match random.below(4) {
            0 => agent.kill_and_start(),
            1 => {
                agent.kill_and_start();
                server.kill_and_start();
            }
            _ => server.kill_and_start(),
        }
        both_serve(&server, &agent, cycle).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut heard = Vec::new();
    for writer in writers {
        heard.push(writer.await.expect("no writer panics"));
    }

    let there: BTreeSet<_> = admin.list().await.expect("it answers").into_iter().collect();
    for one in &heard {
        assert!(one.created.len() > 10, "a writer wrote only {} entries: that is no load", one.created.len());
        for entry in &one.created {
            if one.deleted.contains(entry) {
                assert!(!there.contains(entry), "{entry} was deleted and is there again");
            } else if !one.open.contains(entry) {
                assert!(there.contains(entry), "{entry} was acknowledged and is lost");
            }
        }
    }
    drop(agent);
    the_log_agrees(server.down().path(), &heard);
}

/// Creates and deletes, one after the other, and keeps what was acknowledged.
async fn write(number: u64, mut admin: Admin, over: Arc<AtomicBool>) -> Heard {
    let mut heard = Heard::default();
    for round in 0u64.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("spiffe://writ.local/load/{number}/{round}");
        match admin.create(&id, NODE, &format!("unix:uid:{}", 5000 + number)).await {
            Ok(entry) => heard.created.push(entry),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
        // A hundred stay, so that views and lists stay small in a long run.
        let gone = heard.deleted.len() + heard.open.len();
        if heard.created.len() > gone + 100 {
            let oldest = heard.created[gone].clone();
            match admin.delete(&oldest).await {
                Ok(()) => heard.deleted.insert(oldest),
                Err(_) => heard.open.insert(oldest),
            };
        }
    }
    heard
}

async fn both_serve(server: &Server, agent: &Agent, cycle: u64) {
    let serve = async {
        while Admin::at(&server.socket()).list().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while !matches!(timeout(Duration::from_secs(2), ask(&agent.workload_socket())).await, Ok(Ok(()))) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let served = timeout(BACK, serve).await;
    assert!(served.is_ok(), "cycle {cycle}: no service\n{}\n{}", server.log(), agent.log());
}

async fn ask(socket: &Path) -> Result<(), tonic::Status> {
    let stream = tokio::net::UnixStream::connect(socket)
        .await
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let stream = stream.into_std().map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    Workload::over_std(stream).await.fetch().await.map(drop)
}

/// Reads the log as it lies on disk: revisions without a gap, and in them what was acknowledged, in
/// order. Of a long run the oldest events are forgotten, and so may be the oldest births of each writer.
fn the_log_agrees(data: &Path, heard: &[Heard]) {
    let folder = data.join("state");
    assert!(!folder.join("log.db-wal").exists(), "an orderly end leaves nothing beside the log");
    let key = fs::read(folder.join("mac.key")).expect("the key lies beside the log");
    let key = MacKey::new(key.try_into().expect("it has 32 bytes"));
    let mut log = Sqlite::open(&folder.join("log.db"), key).expect("the log is whole");
    let (forgotten, commits) = match log.tail(Revision(0)) {
        Err(StoreError::Compacted { upto }) => (upto, log.tail(upto).expect("the others are there")),
        all => (Revision(0), all.expect("all of it is there")),
    };
    for (place, commit) in commits.iter().enumerate() {
        let expected = Revision(forgotten.0 + place as u64 + 1);
        assert_eq!(commit.revision, expected, "a revision is skipped or reused");
    }
    let born = births(&commits);
    for one in heard {
        let revisions: Vec<_> = one.created.iter().map(|entry| born.get(entry).copied()).collect();
        let known = revisions.iter().position(Option::is_some).expect("the newest are never forgotten");
        assert!(forgotten.0 > 0 || known == 0, "an acknowledged entry has no event");
        let known = &revisions[known..];
        assert!(known.iter().all(Option::is_some), "an acknowledged entry has no event");
        assert!(known.is_sorted_by(|a, b| a <= b), "a later answer has an earlier revision");
    }
}

/// In which revision each entry first appears.
fn births(commits: &[Commit]) -> BTreeMap<String, Revision> {
    let mut born = BTreeMap::new();
    for commit in commits {
        for change in &commit.changes {
            if let (Change::Put { version: 1, .. }, Key::Entry(id)) = (change, change.key()) {
                let again = born.insert(id.to_string(), commit.revision);
                assert!(again.is_none(), "an entry is created twice");
            }
        }
    }
    born
}

/// Marsaglia's xorshift: enough to choose points in time, and repeatable.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let seed = env::var("WRIT_KILL_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(now.as_nanos() as u64) | 1;
        #[expect(clippy::print_stdout, reason = "whoever wants to repeat a run needs it")]
        {
            println!("WRIT_KILL_SEED={seed} repeats this run");
        }
        Self(seed)
    }

    /// Another one, which depends on nothing but its seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
