//! The spool on real disks: killed at any moment, and without any room.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use agent::spool::{Spool, Terms, Unrecorded};
use audit::{Kind, Record};
use spiffe::{PrivateKey, Timestamp};

const NODE: &str = "spiffe://acme.example/spire/agent/join_token/web-1";
/// What this program is when it is started by a test of its own.
const ROLE: &str = "SPOOL_ROLE";

fn record(n: u64) -> Record {
    Record {
        task: Some(format!("task-{n}")),
        reason: Some("x".repeat(300)),
        ..Record::new(Kind::Decision, Timestamp::from_unix_millis(n as i64))
    }
}

fn terms(dir: &Path) -> Terms {
    Terms { segment: 64 * 1024, ..Terms::new(dir.join("spool")) }
}

/// A head is not part of these stories, so any key will do.
fn open(dir: &Path) -> Spool {
    Spool::open(terms(dir), Some(NODE), &PrivateKey::generate().unwrap()).unwrap()
}

/// This program once more, as the test of this name alone, and in this role.
fn again(command: &mut Command, test: &str, role: &Path) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args()).arg(env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    again
}

/// Records from four tasks until it is killed, and says what was acknowledged.
async fn record_until_killed(dir: &Path) {
    let spool = open(dir);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let spool = spool.clone();
        tasks.spawn(async move {
            for n in 0.. {
                let recorded = spool.record(record(n)).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {} {}", recorded.seq(), recorded.hash()).unwrap();
                out.flush().unwrap();
            }
        });
    }
    tasks.join_next().await;
}

#[test]
fn kill_nine_at_any_moment_loses_no_acknowledged_record() {
    if let Some(dir) = env::var_os(ROLE) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(record_until_killed(&PathBuf::from(dir)));
    }
    let dir = tempfile::tempdir().unwrap();
    let cycles: u64 = env::var("SPOOL_CYCLES").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let (mut total, mut last) = (0, 0);
    for cycle in 0..cycles {
        let name = "kill_nine_at_any_moment_loses_no_acknowledged_record";
        let env_program = &mut Command::new("env");
        let mut child = again(env_program, name, dir.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut acknowledged = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Another number of records each time, and then at any moment of the next group.
        let wanted = 1 + (cycle * 7) % 40;
        let mut seen = Vec::new();
        while seen.len() < usize::try_from(wanted).unwrap() {
            seen.extend(parse(&acknowledged.next().expect("it goes on recording")));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        seen.extend(acknowledged.filter_map(|line| parse(&line)));
        let spool = open(dir.path());
        let end = spool.end().borrow().clone();
        let newest = seen.iter().map(|(seq, _)| *seq).max().unwrap();
        assert!(end.seq >= newest && newest > last, "cycle {cycle}: {newest} of {} is there", end.seq);
        let mut reader = spool.reader(last);
        let mut there = Vec::new();
        loop {
            let read = reader.next(1 << 20).unwrap();
            if read.is_empty() {
                break;
            }
            there.extend(read.into_iter().map(|one| (one.seq, one.hash.to_string())));
        }
        assert!(
            seen.iter().all(|one| there.contains(one)),
            "cycle {cycle}: an acknowledged record is another"
        );
        (total, last) = (total + seen.len(), end.seq);
    }
    assert!(total as u64 >= cycles);
}

fn parse(line: &str) -> Option<(u64, String)> {
    let (seq, hash) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
    Some((seq.parse().ok()?, hash.to_owned()))
}

#[test]
fn on_a_full_disk_nothing_is_permitted_endings_are_noted_and_with_space_it_goes_on() {
    let name = "on_a_full_disk_nothing_is_permitted_endings_are_noted_and_with_space_it_goes_on";
    if let Some(dir) = env::var_os(ROLE) {
        let dir = PathBuf::from(dir);
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "spool"]).arg(&dir).status();
        assert!(mounted.unwrap().success());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(fill(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let unshare = &mut Command::new("unshare");
    let status = again(unshare.args(["--map-root-user", "--mount"]), name, dir.path()).status().unwrap();
    assert!(status.success());
}

async fn fill(dir: &Path) {
    let spool = open(dir);
    let mut last = 0;
    let refused = loop {
        match spool.record(record(last)).await {
            Ok(recorded) => last = recorded.seq(),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Unrecorded::Full);
    assert!(last > 500, "{last} records in a mebibyte");
    // Somebody else takes the last free bytes too.
    let mut other = std::fs::File::create(dir.join("other")).unwrap();
    while other.write_all(&[1; 4096]).is_ok() {}
    let mut end = spool.end();
    for n in 0..50 {
        spool.note(Record { kind: Kind::TaskEnd, ..record(n) });
    }
    end.wait_for(|end| end.seq >= last + 50).await.unwrap();
    let begin = std::time::Instant::now();
    assert_eq!(spool.record(record(0)).await, Err(Unrecorded::Full));
    assert!(begin.elapsed() < Duration::from_secs(1), "a refusal does not wait");
    // An upload goes on, and what the server has makes room.
    assert!(!spool.reader(0).next(1 << 20).unwrap().is_empty());
    let id = end.borrow().spool;
    spool.acknowledge(id, last / 2);
    let again = loop {
        match spool.record(record(0)).await {
            Ok(recorded) => break recorded,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert!(again.seq() > last);
    drop(spool);
    let spool = open(dir);
    assert_eq!(spool.end().borrow().seq, again.seq(), "and all of it is there after a restart");
}
