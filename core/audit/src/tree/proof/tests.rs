use std::convert::Infallible;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

use super::*;
use crate::tree::{Edge, fold};

struct Leaves(Vec<Hash>);

impl Hashes for Leaves {
    type Error = Infallible;
    fn perfect(&self, height: u8, index: u64) -> Result<Hash, Infallible> {
        let (width, index) = (1_usize << height, usize::try_from(index).unwrap());
        Ok(fold(&self.0[index * width..(index + 1) * width]))
    }
}

fn leaves(size: u64) -> Leaves {
    Leaves((0..size).map(|n| Hash::leaf(&n.to_be_bytes())).collect())
}

fn made<T>(proof: Result<Option<T>, Infallible>) -> Option<T> {
    let Ok(proof) = proof;
    proof
}

/// The tree that somebody else has written.
fn oracle(size: u64) -> MemoryBackedTree<Sha256, [u8; 8]> {
    let mut tree = MemoryBackedTree::new();
    (0..size).for_each(|n| tree.push(n.to_be_bytes()));
    tree
}

fn bytes(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn roots_and_proofs_are_those_of_another_implementation(size in 1_u64..700, a in 0_u64..700, b in 0_u64..700) {
        let (tree, oracle) = (leaves(size), oracle(size));
        let Ok(root_hash) = root(&tree, size);
        let theirs = oracle.root();
        prop_assert_eq!(root_hash.0.as_slice(), theirs.as_bytes().as_slice());
        let mut edge = Edge::default();
        tree.0.iter().for_each(|leaf| drop(edge.push(*leaf)));
        prop_assert_eq!(edge.root(), root_hash);

        let index = a % size;
        let proof = made(inclusion(&tree, index, size)).unwrap();
        let theirs = oracle.prove_inclusion(usize::try_from(index).unwrap());
        prop_assert_eq!(bytes(&proof), theirs.as_bytes());
        prop_assert_eq!(check_inclusion(tree.0[usize::try_from(index).unwrap()], index, size, &proof, root_hash), Ok(()));

        let old = 1 + b % size;
        let Ok(old_root) = root(&tree, old);
        let proof = made(consistency(&tree, old, size)).unwrap();
        if old < size {
            let theirs = oracle.prove_consistency(usize::try_from(size - old).unwrap());
            prop_assert_eq!(bytes(&proof), theirs.as_bytes());
        }
        prop_assert_eq!(check_consistency(old, old_root, size, root_hash, &proof), Ok(()));
    }

    #[test]
    fn a_proof_that_was_changed_does_not_hold(size in 2_u64..300, a in 0_u64..300, at in 0_usize..10, flip in 0_usize..256) {
        let tree = leaves(size);
        let Ok(whole) = root(&tree, size);
        let index = a % size;
        let leaf = tree.0[usize::try_from(index).unwrap()];
        let proof = made(inclusion(&tree, index, size)).unwrap();
        let mut changed = proof.clone();
        let place = at % changed.len();
        changed[place].0[flip / 8] ^= 1 << (flip % 8);
        prop_assert!(check_inclusion(leaf, index, size, &changed, whole).is_err());
        prop_assert!(check_inclusion(leaf, index, size, &proof[1..], whole).is_err());
        prop_assert!(check_inclusion(leaf, index, size, &[proof.clone(), vec![leaf]].concat(), whole).is_err());
        let elsewhere = (index + 1) % size;
        prop_assert!(check_inclusion(leaf, elsewhere, size, &proof, whole).is_err());

        let old = 1 + index.min(size - 2);
        let Ok(old_root) = root(&tree, old);
        let proof = made(consistency(&tree, old, size)).unwrap();
        let mut changed = proof.clone();
        let place = at % changed.len();
        changed[place].0[flip / 8] ^= 1 << (flip % 8);
        prop_assert!(check_consistency(old, old_root, size, whole, &changed).is_err());
        prop_assert!(check_consistency(old, whole, size, old_root, &proof).is_err());
    }
}

#[test]
fn what_is_not_there_has_no_proof() {
    let tree = leaves(3);
    assert_eq!(made(inclusion(&tree, 3, 3)), None);
    assert_eq!(made(consistency(&tree, 4, 3)), None);
    assert!(check_inclusion(Hash::default(), 3, 3, &[], Hash::default()).is_err());
    assert!(check_consistency(0, Hash::default(), 3, Hash::default(), &[]).is_err());
    assert_eq!(check_consistency(0, Hash::empty(), 3, Hash::default(), &[]), Ok(()));
}

#[test]
fn an_edge_that_is_opened_again_grows_as_before() {
    let mut edge = Edge::default();
    let mut full = Vec::new();
    for n in 0..70_000_u64 {
        full.extend(edge.push(Hash::leaf(&n.to_be_bytes())));
    }
    assert_eq!(full.len(), 273 + 1);
    let mut read = |tile: crate::tree::Tile| {
        let hashes = edge.partial(tile.level).to_vec();
        assert_eq!(hashes.len(), usize::from(tile.width));
        Ok::<_, Infallible>(hashes)
    };
    let Ok(mut again) = Edge::open(70_000, &mut read);
    assert_eq!((again.root(), again.size()), (edge.root(), 70_000));
    for n in 70_000..70_200_u64 {
        let leaf = Hash::leaf(&n.to_be_bytes());
        assert_eq!(again.push(leaf), edge.push(leaf));
    }
    assert_eq!(again.root(), edge.root());
}
