//! Tiles: 256 hashes of one height, as one file (C2SP tlog-tiles).

use std::fmt;

use crate::Hash;

/// The hashes in a full tile.
pub const WIDTH: u64 = 256;

/// Which tile, and how much of it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tile {
    /// 0 holds leaf hashes; each hash above is the root of a full tile below.
    pub level: u8,
    /// Which one of its level.
    pub index: u64,
    /// 1 to 256 hashes.
    pub width: u16,
}

impl Tile {
    /// The tiles of one level that a tree of `size` leaves has.
    pub fn of_level(level: u8, size: u64) -> impl Iterator<Item = Self> {
        let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let full = (0..hashes / WIDTH).map(move |index| Self { level, index, width: 256 });
        let rest = u16::try_from(hashes % WIDTH).unwrap_or(0);
        let partial = Self { level, index: hashes / WIDTH, width: rest };
        full.chain((rest > 0).then_some(partial))
    }

    /// The levels that a tree of `size` leaves has.
    pub fn levels(size: u64) -> u8 {
        let mut levels = 0;
        while size.checked_shr(8 * u32::from(levels)).unwrap_or(0) > 0 {
            levels += 1;
        }
        levels
    }

    /// Its path below the log's prefix.
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, Numbered(self.index, self.width))
    }

    /// The path of the bundle whose entries have the hashes of this tile of level 0.
    pub fn bundle_path(&self) -> String {
        format!("tile/entries/{}", Numbered(self.index, self.width))
    }

    /// Its bytes.
    pub fn write(hashes: &[Hash]) -> Vec<u8> {
        hashes.iter().flat_map(|hash| hash.0).collect()
    }

    /// The hashes in a tile's bytes.
    pub fn read(bytes: &[u8]) -> Option<Vec<Hash>> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        (rest.is_empty() && hashes.len() as u64 <= WIDTH)
            .then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
    }
}

/// An index in groups of three digits, all but the last with an `x` before them, and a width if it is
/// not full.
struct Numbered(u64, u16);

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(index, width) = *self;
        let mut groups = vec![index % 1000];
        let mut rest = index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups.iter().skip(1).rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if u64::from(width) < WIDTH { write!(f, ".p/{width}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_standard() {
        let path = |index, width| Tile { level: 1, index, width }.path();
        assert_eq!(path(1_234_067, 256), "tile/1/x001/x234/067");
        assert_eq!(path(0, 256), "tile/1/000");
        assert_eq!(path(999, 7), "tile/1/999.p/7");
        assert_eq!(path(1000, 256), "tile/1/x001/000");
        assert_eq!(Tile { level: 0, index: 5, width: 1 }.bundle_path(), "tile/entries/005.p/1");
    }

    #[test]
    fn a_tree_has_the_tiles_that_the_standards_examples_say() {
        let widths = |level, size| Tile::of_level(level, size).map(|tile| tile.width).collect::<Vec<_>>();
        let level_0 = widths(0, 70_000);
        assert_eq!((level_0.len(), level_0[272], level_0[273]), (274, 256, 112));
        assert_eq!(widths(1, 70_000), [256, 17]);
        assert_eq!(widths(2, 70_000), [1]);
        assert_eq!((widths(0, 256), widths(1, 256), widths(2, 256)), (vec![256], vec![1], vec![]));
        assert_eq!(
            (Tile::levels(0), Tile::levels(255), Tile::levels(256), Tile::levels(70_000)),
            (0, 1, 2, 3)
        );
        assert_eq!(Tile::levels(u64::MAX), 8);
    }
}
