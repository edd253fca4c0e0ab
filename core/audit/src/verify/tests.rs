use std::{collections::BTreeMap, convert::Infallible};

use proptest::prelude::*;
use spiffe::Timestamp;
use zeroize::Zeroizing;

use super::*;
use crate::{Chain, Kind, Record, tree::NoteKey};

type Exported = BTreeMap<String, Vec<u8>>;

impl Files for Exported {
    type Error = Infallible;
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.get(path).cloned())
    }
}

fn key() -> NoteKey {
    NoteKey::from_seed(Zeroizing::new([7; 32]))
}

/// A log of so many records of two nodes, as files.
fn exported(size: u64) -> (Exported, VerifierKey) {
    let mut chains = ["a", "b"].map(|node| Chain::new(Some(node.to_owned())));
    let mut leaves = Vec::new();
    for n in 0..size {
        let chain = &mut chains[(n % 2) as usize];
        let record = Record::new(Kind::Decision, Timestamp::from_unix_millis(n as i64));
        let link = chain.link(&record).unwrap();
        chain.take(&link);
        leaves.push(link.leaf);
    }
    (files(&leaves), key().verifier("acme.example/audit").unwrap())
}

fn files(leaves: &[Vec<u8>]) -> Exported {
    let (mut files, mut edge) = (Exported::new(), Edge::default());
    for leaf in leaves {
        for full in edge.push(Hash::leaf(leaf)) {
            files.insert(full.tile.path(), Tile::write(&full.hashes));
        }
    }
    let size = leaves.len() as u64;
    for level in 0..Tile::levels(size) {
        for tile in Tile::of_level(level, size).filter(|tile| tile.width < 256) {
            files.insert(tile.path(), Tile::write(edge.partial(level)));
        }
    }
    for (tile, leaves) in Tile::of_level(0, size).zip(leaves.chunks(256)) {
        let mut content = Vec::new();
        assert!(leaves.iter().all(|leaf| bundle::push(&mut content, leaf)));
        files.insert(tile.bundle_path(), content);
    }
    let checkpoint = Checkpoint { origin: "acme.example/audit".to_owned(), size, root: edge.root() };
    files.insert("checkpoint".to_owned(), checkpoint.sign(&key()).unwrap().into_bytes());
    files
}

fn fault(files: &Exported, key: &VerifierKey) -> Option<String> {
    verify(files, key, |_| {}).err().map(|fault| fault.to_string())
}

/// The leaves of a log's bundles.
fn leaves(files: &Exported, size: u64) -> Vec<Vec<u8>> {
    let bundles = Tile::of_level(0, size).map(|tile| files[&tile.bundle_path()].clone());
    bundles
        .flat_map(|content| {
            bundle::entries(&content).unwrap().into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_whole_log_is_verified_and_says_whose_records_are_in_it() {
    for size in [0, 1, 255, 256, 257, 700, 66_000] {
        let (files, key) = exported(size);
        let verified = verify(&files, &key, |_| {}).unwrap();
        assert_eq!(verified.checkpoint.size, size);
        assert_eq!(verified.nodes.iter().map(|(_, records)| records).sum::<u64>(), size);
    }
}

#[test]
fn what_is_wrong_is_named_by_the_first_entry_that_it_concerns() {
    let (files, key) = exported(700);
    let mut altered = files.clone();
    let content = altered.get_mut("tile/entries/001").unwrap();
    let at = content.len() - 20;
    content[at] ^= 1;
    assert_eq!(
        fault(&altered, &key).unwrap(),
        "entry 511 was altered, moved or put in: it does not have the hash that its tile has"
    );
    let mut without = files.clone();
    without.remove("tile/entries/002.p/188");
    assert_eq!(fault(&without, &key).unwrap(), "tile/entries/002.p/188 is missing");
    let mut tile = files.clone();
    tile.get_mut("tile/1/000.p/2").unwrap()[3] ^= 1;
    assert!(fault(&tile, &key).unwrap().starts_with("tile/1/000.p/2 was altered"));
    let other = NoteKey::from_seed(Zeroizing::new([8; 32])).verifier("acme.example/audit").unwrap();
    assert!(fault(&files, &other).unwrap().contains("no signature by"));
}

#[test]
fn a_server_that_signs_what_it_has_altered_is_betrayed_by_the_nodes_chains() {
    let (whole, key) = exported(700);
    let all = leaves(&whole, 700);
    let mut without = all.clone();
    without.remove(100);
    assert_eq!(
        fault(&files(&without), &key).unwrap(),
        "entry 101: record 52 of a does not follow the one before it"
    );
    let mut altered = all;
    altered[100] =
        String::from_utf8(altered[100].clone()).unwrap().replace("decision", "outcome").into_bytes();
    assert_eq!(
        fault(&files(&altered), &key).unwrap(),
        "entry 102: record 52 of a does not follow the one before it"
    );
}

#[test]
fn a_gap_is_passed_over_only_where_an_alarm_on_record_says_so() {
    let (whole, key) = exported(60);
    let mut all = leaves(&whole, 60);
    all.remove(10);
    assert!(fault(&files(&all), &key).is_some());
    let alarm = Record {
        spiffe_id: Some("a".to_owned()),
        task_seq: Some(7),
        ..Record::new(Kind::AuditAlarm, Timestamp::default())
    };
    all.insert(10, alarm.leaf(10, None, None).unwrap());
    let verified = verify(&files(&all), &key, |_| {}).unwrap();
    assert_eq!(verified.alarms, 1);
}

thread_local! {
    static LOG: (Exported, VerifierKey) = exported(700);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn every_flip_deletion_swap_and_truncation_of_a_log_is_found(kind in 0..5, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let (mut changed, key) = LOG.with(Clone::clone);
        let paths: Vec<String> = changed.keys().cloned().collect();
        let (one, other) = (paths[a.index(paths.len())].clone(), paths[b.index(paths.len())].clone());
        match kind {
            0 => {
                let content = changed.get_mut(&one).unwrap();
                let bit = bit.index(content.len() * 8);
                content[bit / 8] ^= 1 << (bit % 8);
            }
            1 => drop(changed.remove(&one)),
            2 => {
                let (first, second) = (changed[&one].clone(), changed[&other].clone());
                prop_assume!(first != second);
                changed.insert(one, second);
                changed.insert(other, first);
            }
            3 => {
                let content = changed.get_mut(&one).unwrap();
                content.truncate(bit.index(content.len()));
            }
            _ => {
                // One entry of a bundle taken out, or two of them swapped.
                let path = format!("tile/entries/00{}", a.index(2));
                let content = changed.get_mut(&path).unwrap();
                let mut entries: Vec<Vec<u8>> = bundle::entries(content).unwrap().into_iter().map(<[u8]>::to_vec).collect();
                let (x, y) = (b.index(256), bit.index(256));
                if x == y { drop(entries.remove(x)) } else { entries.swap(x, y) }
                *content = Vec::new();
                prop_assert!(entries.iter().all(|entry| bundle::push(content, entry)));
            }
        }
        prop_assert!(fault(&changed, &key).is_some());
    }
}
