//! What every log promises, asked of each kind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use registry::{Change, LogId, Revision};
use store::{Judged, Log, MacKey, Memory, Origin, Sqlite, StoreError};
use support::{commit, key, put};
use tempfile::TempDir;

fn on_each(check: impl Fn(&mut dyn Log)) {
    check(&mut Memory::new(LogId("memory".to_owned())));
    let dir = TempDir::new().unwrap();
    check(&mut Sqlite::open(&dir.path().join("log.db"), MacKey::new([7; 32])).unwrap());
}

#[test]
fn a_new_log_is_empty() {
    on_each(|log| {
        let loaded = log.load().unwrap();
        assert_eq!((loaded.revision, loaded.objects.len()), (Revision(0), 0));
        assert_eq!(log.tail(Revision(0)).unwrap(), vec![]);
    });
}

#[test]
fn what_was_committed_is_loaded_and_told_again() {
    on_each(|log| {
        let group = vec![
            commit(1, vec![put("a", 1), put("b", 1)]),
            commit(2, vec![]),
            commit(3, vec![put("a", 2), Change::Delete(key("b"))]),
        ];
        log.commit(&group[..2]).unwrap();
        log.commit(&group[2..]).unwrap();
        let loaded = log.load().unwrap();
        assert_eq!(loaded.revision, Revision(3));
        assert_eq!(
            loaded.objects.iter().map(|o| (o.object.key(), o.version)).collect::<Vec<_>>(),
            [(key("a"), 2)]
        );
        assert_eq!(log.tail(Revision(0)).unwrap(), group);
        assert_eq!(log.tail(Revision(2)).unwrap(), group[2..]);
    });
}

#[test]
fn a_gap_is_refused_and_nothing_of_the_group_is_kept() {
    on_each(|log| {
        log.commit(&[commit(1, vec![put("a", 1)])]).unwrap();
        let holed = [commit(2, vec![put("b", 1)]), commit(4, vec![put("c", 1)])];
        assert!(matches!(log.commit(&holed), Err(StoreError::Gap { at: Revision(2), got: Revision(4) })));
        assert!(matches!(log.commit(&[commit(1, vec![])]), Err(StoreError::Gap { .. })));
        assert_eq!(log.load().unwrap().revision, Revision(1));
        log.commit(&[commit(2, vec![put("b", 1)])]).unwrap();
    });
}

#[test]
fn compaction_forgets_events_and_keeps_objects() {
    on_each(|log| {
        for revision in 1..=5 {
            log.commit(&[commit(revision, vec![put("a", revision)])]).unwrap();
        }
        log.compact(Revision(3)).unwrap();
        assert!(matches!(log.tail(Revision(1)), Err(StoreError::Compacted { upto: Revision(3) })));
        assert_eq!(log.tail(Revision(3)).unwrap().len(), 2);
        assert_eq!(log.load().unwrap().objects.len(), 1);
        log.commit(&[commit(6, vec![])]).unwrap();
    });
}

#[test]
fn a_backup_is_the_whole_log_or_nothing_and_the_log_goes_on() {
    on_each(|log| {
        log.commit(&[commit(1, vec![put("a", 1), put("b", 1)]), commit(2, vec![Change::Delete(key("b"))])])
            .unwrap();
        let dir = TempDir::new().unwrap();
        let to = dir.path().join("copy.db");
        match log.backup(&to) {
            Ok(()) => {
                log.commit(&[commit(3, vec![put("c", 1)])]).unwrap();
                let mut copy = Sqlite::open(&to, MacKey::new([7; 32])).unwrap();
                assert_eq!(copy.id(), log.id());
                assert_eq!(copy.tail(Revision(0)).unwrap(), log.tail(Revision(0)).unwrap()[..2]);
                assert_eq!(copy.load().unwrap().objects.len(), 1);
                assert_eq!(copy.witness().revision, Revision(2));
            }
            Err(error) => assert!(!to.exists(), "{error}"),
        }
        let after = log.load().unwrap().revision;
        log.commit(&[commit(after.0 + 1, vec![])]).unwrap();
    });
}

#[test]
fn a_witness_is_known_to_its_log_and_shows_a_later_log_what_it_lost() {
    on_each(|log| {
        log.commit(&[commit(1, vec![put("a", 1)])]).unwrap();
        let early = log.witness();
        log.commit(&[commit(2, vec![put("a", 2)])]).unwrap();
        let late = log.witness();
        assert_eq!((log.judge(&early).unwrap(), log.judge(&late).unwrap()), (Judged::Known, Judged::Known));
        assert_eq!(log.origin(), None);
        let was = log.id().clone();
        log.begin_anew(&commit(3, vec![Change::Delete(key("a"))])).unwrap();
        assert_ne!(*log.id(), was);
        assert_eq!(log.origin(), Some(&Origin { log: was, revision: Revision(2) }));
        assert_eq!(log.judge(&late).unwrap(), Judged::Known);
        assert_eq!(log.load().unwrap().revision, Revision(3));
    });
}
