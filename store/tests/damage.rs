//! What disks and people do to a log, and that nothing of it is ever served.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use registry::{Change, Commit, Revision};
use rusqlite::Connection;
use store::{Loaded, Log, MacKey, Sqlite, StoreError};
use support::{commit, key, put};
use tempfile::TempDir;

fn open(path: &Path) -> Result<Sqlite, StoreError> {
    Sqlite::open(path, MacKey::new([7; 32]))
}

/// A closed log in which objects came in groups, changed and went; large enough for several pages.
fn written(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("log.db");
    let mut log = open(&path).unwrap();
    for revision in 1..=60 {
        let changes = (0..10).map(|n| put(&format!("n{}-{n}", revision % 20), 1 + (revision - 1) / 20));
        log.commit(&[commit(revision, changes.collect())]).unwrap();
    }
    log.commit(&[commit(61, vec![Change::Delete(key("n0-0"))])]).unwrap();
    path
}

fn read(path: &Path) -> Result<(Loaded, Vec<Commit>), StoreError> {
    let mut log = open(path)?;
    Ok((log.load()?, log.tail(Revision(0))?))
}

/// A byte that counts is found out, and one that does not (unused space, SQLite's hints) changes nothing.
#[test]
fn a_flipped_byte_is_never_served() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir);
    let expected = read(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let mut found = 0;
    // The header of the file and of its first page whole, and then every 997th byte.
    for at in (0..108).chain((108..good.len()).step_by(997)) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        match read(&path) {
            Ok(loaded) => assert_eq!(loaded, expected, "byte {at} was served"),
            Err(_) => found += 1,
        }
        let _left_by_the_attempt = fs::remove_file(path.with_extension("db-wal"));
    }
    assert!(found > 100, "only {found} flips were found");
}

#[test]
fn damage_to_the_file_itself_names_the_way_out() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let message = read(&path).unwrap_err().to_string();
    assert!(message.contains("writ backup restore"), "{message}");
    fs::write(&path, &good).unwrap();
    Connection::open(&path).unwrap().execute_batch("DROP TABLE leaves").unwrap();
    let message = read(&path).unwrap_err().to_string();
    assert!(message.contains("writ backup restore"), "{message}");
}

#[test]
fn a_leaf_is_checked_before_it_is_told_again() {
    for (sql, names) in [
        ("UPDATE leaves SET leaf = x'7b7d' WHERE revision = 30", "leaves/30"),
        ("DELETE FROM leaves WHERE revision = 30", "leaves/30"),
        ("DELETE FROM events WHERE revision = 30", "before 31"),
    ] {
        let dir = TempDir::new().unwrap();
        let path = written(&dir);
        Connection::open(&path).unwrap().execute(sql, []).unwrap();
        match open(&path).unwrap().tail(Revision(20)) {
            Err(StoreError::Tampered { what }) => assert!(what.contains(names), "{what}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn what_was_compacted_does_not_hide_what_was_removed() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir);
    let mut log = open(&path).unwrap();
    log.compact(Revision(40)).unwrap();
    assert_eq!(log.tail(Revision(40)).unwrap().len(), 21);
    assert_eq!(log.load().unwrap().revision, Revision(61), "leaves stay, and are still checked");
    drop(log);
    Connection::open(&path).unwrap().execute("DELETE FROM leaves WHERE revision = 7", []).unwrap();
    assert!(matches!(read(&path), Err(StoreError::Tampered { .. })));
}

#[test]
fn a_log_that_others_can_read_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let message = open(&path).unwrap_err().to_string();
    assert!(message.contains("0640") && message.contains("chmod 600"), "{message}");
}

#[test]
fn a_backup_that_fails_leaves_nothing_behind_and_the_log_well() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir);
    let mut log = open(&path).unwrap();
    let nowhere = dir.path().join("no such directory").join("copy.db");
    assert!(log.backup(&nowhere).is_err());
    let there = dir.path().join("there.db");
    fs::write(&there, "mine").unwrap();
    assert!(log.backup(&there).is_err());
    assert_eq!(fs::read(&there).unwrap(), b"mine");
    log.commit(&[commit(62, vec![])]).unwrap();
}

/// The write-ahead log is carried over while the log is open, so it does not grow without end.
#[test]
fn the_write_ahead_log_stays_bounded() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    let mut log = open(&path).unwrap();
    for revision in 1..=60 {
        let changes = (0..500).map(|n| put(&format!("n{n}"), revision)).collect();
        log.commit(&[commit(revision, changes)]).unwrap();
    }
    let size = fs::metadata(path.with_extension("db-wal")).unwrap().len();
    assert!(size < 64 * 1024 * 1024, "{size} bytes");
    assert!(fs::metadata(&path).unwrap().len() > 100_000, "something was carried over");
}

const CHILD: &str = "STORE_TEST_FAILING_LOG";

/// Not a test of its own: what `after_a_failed_write_the_log_refuses_everything` runs as another
/// process, in which files cannot grow beyond a limit. The system reports that as an error of the
/// disk, not as a full one.
#[test]
fn child_commits_until_a_write_fails() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let mut log = open(Path::new(&path)).unwrap();
    let mut revision = log.load().unwrap().revision.0;
    let error = loop {
        revision += 1;
        let changes = (0..100).map(|n| put(&format!("n{revision}-{n}"), 1)).collect();
        match log.commit(&[commit(revision, changes)]) {
            Ok(()) => println!("acked {revision}"),
            Err(error) => break error,
        }
    };
    assert!(!matches!(error, StoreError::Full), "{error}");
    let next = [commit(revision, vec![])];
    assert!(matches!(log.commit(&next), Err(StoreError::Fenced)));
    assert!(matches!(log.load(), Err(StoreError::Fenced)));
    assert!(matches!(log.tail(Revision(0)), Err(StoreError::Fenced)));
    assert!(matches!(log.compact(Revision(1)), Err(StoreError::Fenced)));
    assert!(matches!(log.backup(Path::new("/nowhere")), Err(StoreError::Fenced)));
    println!("fenced");
}

#[test]
fn after_a_failed_write_the_log_refuses_everything() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    let mut log = open(&path).unwrap();
    log.commit(&[commit(1, vec![put("a", 1)])]).unwrap();
    drop(log);
    let limited = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 2000; exec \"$0\" --exact child_commits_until_a_write_fails --nocapture",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&limited.stdout);
    assert!(limited.status.success() && said.contains("fenced"), "{limited:?}");
    let acked = said.lines().filter_map(|line| line.split("acked ").nth(1)?.parse().ok()).max();
    let mut log = open(&path).unwrap();
    let revision = log.load().unwrap().revision.0;
    assert!(revision >= acked.unwrap_or(1), "acknowledged up to {acked:?}, found {revision}");
    log.commit(&[commit(revision + 1, vec![put("b", 1)])]).unwrap();
}
