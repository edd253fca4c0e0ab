use audit::tree::proof::{check_consistency, check_inclusion, consistency, inclusion, root};

use super::*;

fn batch(range: std::ops::Range<u64>) -> Batch {
    let entry = |n: u64| NewEntry {
        leaf: format!("entry {n}").into_bytes(),
        sealed: if n % 10 == 3 { vec![7] } else { Vec::new() },
    };
    Batch {
        cursors: vec![("s".to_owned(), range.end.to_string().into_bytes())],
        entries: range.map(entry).collect(),
    }
}

fn note(size: u64, root: Hash) -> String {
    format!("{size} {root}")
}

#[test]
fn what_was_appended_is_there_again_and_every_proof_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let mut size = 0;
    for step in [1, 254, 1, 1, 300, 66_000, 255] {
        let mut log = AuditLog::open(&path).unwrap();
        assert_eq!(log.size(), size);
        log.append(&batch(size..size + step), note).unwrap();
        size += step;
        assert_eq!(log.checkpoint().unwrap(), Some(note(size, log.root())));
        assert_eq!(log.cursor("s").unwrap(), Some(size.to_string().into_bytes()));
    }
    let log = AuditLog::open(&path).unwrap();
    let reader = AuditReader::open(&path).unwrap();
    let whole = log.root();
    assert_eq!(root(&reader, size).unwrap(), whole);
    for index in [0, 1, 255, 256, 300, 65_535, 65_536, 66_000, size - 1] {
        let proof = inclusion(&reader, index, size).unwrap().unwrap();
        let leaf = Hash::leaf(&reader.entries(index, index + 1).unwrap()[0]);
        assert_eq!(check_inclusion(leaf, index, size, &proof, whole), Ok(()), "{index}");
        let proof = consistency(&reader, index + 1, size).unwrap().unwrap();
        let old = root(&reader, index + 1).unwrap();
        assert_eq!(check_consistency(index + 1, old, size, whole, &proof), Ok(()), "{index}");
    }
    for level in 0..Tile::levels(size) {
        for tile in Tile::of_level(level, size) {
            assert_eq!(reader.tile(tile).unwrap().len(), usize::from(tile.width));
        }
    }
}

#[test]
fn a_payload_is_erased_and_the_tree_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let mut log = AuditLog::open(&path).unwrap();
    let mut with = batch(0..20);
    with.entries[3].sealed = b"Ada Lovelace, sealed".to_vec();
    log.append(&with, note).unwrap();
    let record = Batch {
        entries: vec![NewEntry { leaf: b"erased".to_vec(), sealed: Vec::new() }],
        ..Batch::default()
    };
    let old = log.root();
    assert!(log.erase(3, &record, note).unwrap() && !log.erase(3, &record, note).unwrap());
    let reader = AuditReader::open(&path).unwrap();
    assert_eq!((reader.sealed(3).unwrap(), reader.sealed(13).unwrap()), (None, Some(vec![7])));
    assert_eq!((log.size(), root(&reader, 20).unwrap()), (21, old));
    drop((log, reader));
    for name in ["audit.db", "audit.db-wal"] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap_or_default();
        assert!(!bytes.windows(12).any(|part| part == b"Ada Lovelace"), "{name} has it still");
    }
}

#[test]
fn a_full_disk_refuses_whole_batches_and_later_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(&dir.path().join("audit.db")).unwrap();
    log.append(&batch(0..300), note).unwrap();
    log.limit_pages(24).unwrap();
    let (size, root) = (log.size(), log.root());
    assert!(matches!(log.append(&batch(300..9000), note), Err(StoreError::Full)));
    assert_eq!((log.size(), log.root()), (size, root));
    log.limit_pages(100_000).unwrap();
    log.append(&batch(300..9000), note).unwrap();
    assert_eq!(log.size(), 9000);
}

#[test]
fn a_copy_that_is_made_while_the_log_is_in_use_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(&dir.path().join("audit.db")).unwrap();
    log.append(&batch(0..700), note).unwrap();
    log.backup(&dir.path().join("copy.db")).unwrap();
    let copy = AuditLog::open(&dir.path().join("copy.db")).unwrap();
    assert_eq!((copy.size(), copy.root()), (log.size(), log.root()));
}

#[test]
fn an_entry_that_is_changed_in_the_database_contradicts_what_was_hashed_over_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    let mut log = AuditLog::open(&path).unwrap();
    log.append(&batch(0..300), note).unwrap();
    let root = log.root();
    drop(log);
    let behind = |statement: &str| Connection::open(&path).unwrap().execute(statement, []).unwrap();
    behind("UPDATE entries SET leaf = x'00' WHERE idx = 290");
    let mut log = AuditLog::open(&path).unwrap();
    assert_eq!(log.root(), root, "it goes on from what was signed");
    log.append(&batch(300..310), note).unwrap();
    let reader = AuditReader::open(&path).unwrap();
    let tile = Tile { level: 0, index: 1, width: 54 };
    let (hashes, entries) = (reader.tile(tile).unwrap(), reader.entries(256, 310).unwrap());
    let wrong: Vec<_> = (0..54).filter(|at| hashes[*at] != Hash::leaf(&entries[*at])).collect();
    assert_eq!(wrong, [290 - 256]);
    drop((log, reader));
    behind("DELETE FROM entries WHERE idx = 309");
    assert!(matches!(AuditLog::open(&path), Err(StoreError::Tampered { .. })), "what is missing at the end");
}
