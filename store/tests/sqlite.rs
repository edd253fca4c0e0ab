//! What SQLite keeps on disk, and what it does when that is touched.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use registry::{Change, Revision};
use rusqlite::{Connection, params};
use store::{Log, MacKey, Sqlite, StoreError};
use support::{commit, key, put};
use tempfile::TempDir;

fn open(path: &Path) -> Result<Sqlite, StoreError> {
    Sqlite::open(path, MacKey::new([7; 32]))
}

/// A closed log with some history: `a` changed once, `b` deleted, `c` as created.
fn written(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("log.db");
    let mut log = open(&path).unwrap();
    log.commit(&[commit(1, vec![put("a", 1), put("b", 1), put("c", 1)])]).unwrap();
    log.commit(&[commit(2, vec![put("a", 2), Change::Delete(key("b"))])]).unwrap();
    path
}

/// Opens and loads; what an alteration must make fail.
fn read(path: &Path) -> Result<usize, StoreError> {
    open(path)?.load().map(|loaded| loaded.objects.len())
}

#[track_caller]
fn assert_tampered(path: &Path, names: &str) {
    match read(path) {
        Err(StoreError::Tampered { what }) => {
            assert!(what.contains(names), "{what:?} does not name {names:?}")
        }
        other => panic!("altered and not noticed: {other:?}"),
    }
    let message = read(path).unwrap_err().to_string();
    assert!(message.contains("writ backup restore"), "{message}");
}

#[test]
fn the_log_and_its_side_files_are_its_owners_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    let mut log = open(&path).unwrap();
    log.commit(&[commit(1, vec![put("a", 1)])]).unwrap();
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn two_servers_cannot_share_a_log() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    let _first = open(&path).unwrap();
    assert!(matches!(open(&path), Err(StoreError::InUse { .. })));
}

#[test]
fn a_log_keeps_its_identity_and_its_content() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir);
    let id = open(&path).unwrap().id().clone();
    let mut again = open(&path).unwrap();
    assert_eq!(again.id(), &id);
    let loaded = again.load().unwrap();
    assert_eq!((loaded.revision, loaded.objects.len()), (Revision(2), 2));
}

#[test]
fn another_key_reads_nothing() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir);
    assert!(matches!(Sqlite::open(&path, MacKey::new([8; 32])), Err(StoreError::Tampered { .. })));
}

#[test]
fn a_file_of_another_kind_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    assert!(matches!(open(&path), Err(StoreError::Foreign { .. })));
    fs::write(&path, vec![b'x'; 4096]).unwrap();
    assert!(matches!(open(&path), Err(StoreError::Foreign { .. })));
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir);
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(matches!(open(&path), Err(StoreError::Newer { found: 99, .. })));
}

#[test]
fn every_alteration_of_a_row_is_found_and_named() {
    let alterations = [
        (
            "UPDATE objects SET body = CAST(replace(CAST(body AS TEXT), 'fresh', 'spent') AS BLOB) WHERE key = 'token/a'",
            "objects/token/a",
        ),
        ("UPDATE objects SET version = 9 WHERE key = 'token/c'", "objects/token/c"),
        ("UPDATE objects SET key = 'token/d' WHERE key = 'token/c'", "objects/token/d"),
        ("UPDATE objects SET mac = x'00' WHERE key = 'token/c'", "objects"),
        ("DELETE FROM objects WHERE key = 'token/c'", "missing"),
        ("UPDATE events SET author = x'7b7d' WHERE revision = 1", "events/1"),
        ("UPDATE events SET changes = x'5b5d' WHERE revision = 2", "events/2"),
        ("DELETE FROM events", "newest event is missing"),
        ("UPDATE leaves SET leaf = x'00' WHERE revision = 1", "leaves/1"),
        ("DELETE FROM leaves WHERE revision = 1", "leaves/2"),
        ("DELETE FROM leaves WHERE revision = 2", "leaves"),
        ("UPDATE meta SET value = x'00'", "identity"),
    ];
    for (sql, names) in alterations {
        let dir = TempDir::new().unwrap();
        let path = written(&dir);
        assert!(Connection::open(&path).unwrap().execute(sql, []).unwrap() > 0, "{sql}");
        assert_tampered(&path, names);
    }
}

#[test]
fn an_older_genuine_row_put_back_is_found() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    let mut log = open(&path).unwrap();
    log.commit(&[commit(1, vec![put("a", 1)])]).unwrap();
    drop(log);
    let old: (i64, i64, Vec<u8>, Vec<u8>) = Connection::open(&path)
        .unwrap()
        .query_row("SELECT version, revision, body, mac FROM objects", [], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
        })
        .unwrap();
    let mut log = open(&path).unwrap();
    log.commit(&[commit(2, vec![put("a", 2)])]).unwrap();
    drop(log);
    Connection::open(&path)
        .unwrap()
        .execute(
            "UPDATE objects SET version = ?1, revision = ?2, body = ?3, mac = ?4",
            params![old.0, old.1, old.2, old.3],
        )
        .unwrap();
    assert_tampered(&path, "older");
}

#[test]
fn a_full_disk_refuses_and_goes_on_once_there_is_space() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    let mut log = open(&path).unwrap();
    log.commit(&[commit(1, vec![put("a", 1)])]).unwrap();
    log.limit_pages(30).unwrap();
    let mut revision = 1;
    let refused = loop {
        let changes = (0..20).map(|n| put(&format!("n{revision}-{n}"), 1)).collect();
        match log.commit(&[commit(revision + 1, changes)]) {
            Ok(()) => revision += 1,
            Err(error) => break error,
        }
        assert!(revision < 1000, "30 pages never filled up");
    };
    assert!(matches!(refused, StoreError::Full), "{refused}");
    assert_eq!(log.load().unwrap().revision, Revision(revision));
    log.limit_pages(1_000_000).unwrap();
    log.commit(&[commit(revision + 1, vec![put("b", 1)])]).unwrap();
    assert_eq!(log.load().unwrap().revision, Revision(revision + 1));
}

#[test]
fn a_backup_of_a_log_in_use_is_whole() {
    let dir = TempDir::new().unwrap();
    let mut log = open(&written(&dir)).unwrap();
    let copy = dir.path().join("copy.db");
    log.backup(&copy).unwrap();
    log.commit(&[commit(3, vec![put("d", 1)])]).unwrap();
    assert_eq!(open(&copy).unwrap().load().unwrap().revision, Revision(2));
    assert!(log.backup(&copy).is_err(), "a backup never replaces a file");
}

const CHILD: &str = "STORE_TEST_CHILD_LOG";

/// Not a test of its own: what `killed_at_any_moment` runs as another process.
#[test]
fn child_commits_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let mut log = open(Path::new(&path)).unwrap();
    let start = log.load().unwrap().revision.0;
    for revision in start + 1.. {
        log.commit(&[commit(revision, vec![put(&format!("n{}", revision % 50), 1 + revision / 50)])])
            .unwrap();
        println!("acked {revision}");
    }
}

#[test]
fn killed_at_any_moment_it_keeps_what_it_acknowledged() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    let mut acked = 0;
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_commits_until_it_is_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stop_after = 1 + round * 7 % 23;
        let mut seen = 0;
        let mut killed = false;
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line.split("acked ").nth(1) {
                acked = number.parse().unwrap();
                seen += 1;
            }
            // Killed between two lines; acknowledgements still in the pipe count too.
            if seen == stop_after && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        let mut log = open(&path).unwrap();
        let revision = log.load().unwrap().revision.0;
        assert!(revision >= acked, "acknowledged up to {acked}, found {revision}");
        let events = log.tail(Revision(0)).unwrap();
        assert!(events.iter().zip(1..).all(|(commit, n)| commit.revision.0 == n), "a revision is missing");
    }
}
