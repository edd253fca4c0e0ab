//! The right edge of a tree: the tiles that are not full yet. It is all that it takes to grow the tree
//! and to know its root.

use super::{
    fold,
    tile::{Tile, WIDTH},
};
use crate::Hash;

/// The right edge of a tree.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Edge {
    size: u64,
    /// For each level the hashes of its last tile, as long as that is not full.
    levels: Vec<Vec<Hash>>,
}

/// A tile that has become full.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FullTile {
    /// Which.
    pub tile: Tile,
    /// Its 256 hashes.
    pub hashes: Vec<Hash>,
}

impl Edge {
    /// The edge of a tree of `size` leaves, whose last, not full tile of each level `read` gives.
    pub fn open<E>(size: u64, mut read: impl FnMut(Tile) -> Result<Vec<Hash>, E>) -> Result<Self, E> {
        let mut levels = Vec::new();
        for level in 0..Tile::levels(size) {
            let last = Tile::of_level(level, size).last().filter(|tile| u64::from(tile.width) < WIDTH);
            levels.push(last.map(&mut read).transpose()?.unwrap_or_default());
        }
        Ok(Self { size, levels })
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash, and gives the tiles that became full by it.
    pub fn push(&mut self, leaf: Hash) -> Vec<FullTile> {
        let (mut full, mut hash) = (Vec::new(), leaf);
        self.size += 1;
        for level in 0_u8.. {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[usize::from(level)];
            hashes.push(hash);
            if (hashes.len() as u64) < WIDTH {
                break;
            }
            let hashes = std::mem::take(hashes);
            hash = fold(&hashes);
            let index = self.size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0) - 1;
            full.push(FullTile { tile: Tile { level, index, width: 256 }, hashes });
        }
        full
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for hashes in &self.levels {
            let mut rest = hashes.as_slice();
            // The perfect subtrees of a level, from the smallest, which is the last one.
            while !rest.is_empty() {
                let (before, last) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
                let subtree = fold(last);
                root = Some(root.map_or(subtree, |right| Hash::node(subtree, right)));
                rest = before;
            }
        }
        root.unwrap_or_else(Hash::empty)
    }

    /// The hashes of a tile that is not full yet.
    pub fn partial(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }
}
