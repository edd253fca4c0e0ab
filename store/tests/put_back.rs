//! An older copy of a log is not taken for the newest.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use registry::{Change, Revision};
use rusqlite::Connection;
use store::{Judged, Log, MacKey, Sqlite, StoreError, Witness};
use support::{commit, key, put};
use tempfile::TempDir;

fn open(path: &Path) -> Result<Sqlite, StoreError> {
    Sqlite::open(path, MacKey::new([7; 32]))
}

fn written(dir: &TempDir, upto: u64) -> PathBuf {
    let path = dir.path().join("log.db");
    let mut log = open(&path).unwrap();
    let from = log.load().unwrap().revision.0;
    for revision in from + 1..=upto {
        log.commit(&[commit(revision, vec![put("a", revision)])]).unwrap();
    }
    path
}

/// A log at revision 5 in which the database of revision 3 lies.
fn put_back(dir: &TempDir) -> PathBuf {
    let path = written(dir, 3);
    let older = fs::read(&path).unwrap();
    written(dir, 5);
    fs::write(&path, older).unwrap();
    path
}

#[test]
fn a_database_that_was_put_back_is_not_opened_and_the_error_names_both_ways_out() {
    let dir = TempDir::new().unwrap();
    let path = put_back(&dir);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, StoreError::RolledBack { at: Revision(3), seen: Revision(5) }), "{error}");
    let message = error.to_string();
    assert!(message.contains("writ backup restore") && message.contains("writ backup accept"), "{message}");
    assert!(open(&path).is_err(), "trying again does not help");
}

#[test]
fn the_newest_event_taken_out_is_noticed_with_the_mark_and_without() {
    for without_mark in [false, true] {
        let dir = TempDir::new().unwrap();
        let path = written(&dir, 3);
        Connection::open(&path).unwrap().execute("DELETE FROM events WHERE revision = 3", []).unwrap();
        if without_mark {
            fs::remove_file(path.with_extension("mark")).unwrap();
        }
        let refused = open(&path).and_then(|mut log| log.load()).unwrap_err();
        assert_eq!(matches!(refused, StoreError::Tampered { .. }), without_mark, "{refused}");
    }
}

#[test]
fn after_a_power_cut_the_mark_may_be_older_than_the_log_or_gone() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir, 3);
    let mark = path.with_extension("mark");
    let older = fs::read(&mark).unwrap();
    written(&dir, 5);
    for content in [Some(older), None] {
        match content {
            Some(content) => fs::write(&mark, content).unwrap(),
            None => fs::remove_file(&mark).unwrap(),
        }
        assert_eq!(open(&path).unwrap().load().unwrap().revision, Revision(5));
    }
    fs::write(&mark, "nonsense\n").unwrap();
    assert!(open(&path).unwrap_err().to_string().contains("log.mark"));
}

#[test]
fn a_put_back_log_goes_on_as_a_new_one_that_knows_where_it_comes_from() {
    let dir = TempDir::new().unwrap();
    let path = put_back(&dir);
    let mut log = Sqlite::open_put_back(&path, MacKey::new([7; 32])).unwrap();
    let before = log.id().clone();
    log.begin_anew(&commit(4, vec![Change::Delete(key("a"))])).unwrap();
    drop(log);
    let mut log = open(&path).unwrap();
    assert_ne!(*log.id(), before);
    assert_eq!(log.load().unwrap().objects.len(), 0);
    let origin = log.origin().unwrap();
    assert_eq!((&origin.log, origin.revision), (&before, Revision(3)));
}

/// A machine that was put back whole, its mark with it: only what others have kept shows it.
#[test]
fn a_witness_of_what_was_lost_stops_the_log_now_and_at_the_next_start() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir, 3);
    let (database, mark) = (fs::read(&path).unwrap(), fs::read(path.with_extension("mark")).unwrap());
    written(&dir, 5);
    let kept = open(&path).unwrap().witness();
    fs::write(&path, &database).unwrap();
    fs::write(path.with_extension("mark"), &mark).unwrap();
    let mut log = open(&path).unwrap();
    assert!(matches!(log.judge(&kept), Err(StoreError::RolledBack { at: Revision(3), seen: Revision(5) })));
    assert!(matches!(log.commit(&[commit(4, vec![])]), Err(StoreError::Fenced)));
    drop(log);
    assert!(matches!(open(&path), Err(StoreError::RolledBack { .. })));
}

#[test]
fn a_fork_is_noticed_also_when_it_has_become_longer_than_what_was_lost() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir, 3);
    let (database, mark) = (fs::read(&path).unwrap(), fs::read(path.with_extension("mark")).unwrap());
    written(&dir, 5);
    let kept = open(&path).unwrap().witness();
    fs::write(&path, &database).unwrap();
    fs::write(path.with_extension("mark"), &mark).unwrap();
    let mut log = open(&path).unwrap();
    for revision in 4..=20 {
        let forked = registry::Commit { leaf: b"{\"fork\":1}".to_vec(), ..commit(revision, vec![]) };
        log.commit(&[forked]).unwrap();
    }
    assert!(matches!(log.judge(&kept), Err(StoreError::RolledBack { at: Revision(20), seen: Revision(5) })));
}

#[test]
fn nobody_can_invent_a_witness() {
    let dir = TempDir::new().unwrap();
    let mut log = open(&written(&dir, 3)).unwrap();
    let genuine = log.witness();
    let invented = |log, revision, proof: &[u8]| Witness::from_parts(log, Revision(revision), proof);
    let id = log.id().clone();
    assert_eq!(log.judge(&genuine).unwrap(), Judged::Known);
    assert_eq!(log.judge(&invented(id.clone(), 9, &genuine.proof()).unwrap()).unwrap(), Judged::Nothing);
    assert_eq!(log.judge(&invented(id.clone(), 9, &[0; 64]).unwrap()).unwrap(), Judged::Nothing);
    assert!(invented(id, 9, &[0; 63]).is_none());
    let mut other = Sqlite::open(&dir.path().join("other.db"), MacKey::new([8; 32])).unwrap();
    other.commit(&[commit(1, vec![])]).unwrap();
    assert_eq!(log.judge(&other.witness()).unwrap(), Judged::Nothing);
}
