//! Proofs of inclusion and consistency (RFC 9162 sections 2.1.3 and 2.1.4), made from a tree's hashes and
//! checked without them.

use crate::Hash;

/// The hashes of a tree: those of perfect subtrees.
pub trait Hashes {
    /// What can go wrong when one is looked up.
    type Error;
    /// The root of the subtree over the leaves `index << height .. (index + 1) << height`, all of which
    /// are there.
    fn perfect(&self, height: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// A proof that does not hold, or cannot be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf or no such smaller tree.
    #[error("there is no proof of {of} in a tree of {size}")]
    Range {
        /// The leaf, or the size of the smaller tree.
        of: u64,
        /// The size of the tree.
        size: u64,
    },
    /// Too many or too few hashes.
    #[error("the proof has another length than it should have")]
    Length,
    /// The root is another one.
    #[error("the proof leads to another root")]
    Root,
}

/// The proof that leaf `index` is in the tree of the first `size` leaves.
pub fn inclusion<H: Hashes>(hashes: &H, index: u64, size: u64) -> Result<Option<Vec<Hash>>, H::Error> {
    if index >= size {
        return Ok(None);
    }
    let mut path = Vec::new();
    let (mut low, mut high) = (0, size);
    let mut siblings = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            siblings.push((middle, high));
            high = middle;
        } else {
            siblings.push((low, middle));
            low = middle;
        }
    }
    for (low, high) in siblings.into_iter().rev() {
        path.push(range(hashes, low, high)?);
    }
    Ok(Some(path))
}

/// The proof that the tree of the first `old` leaves is the beginning of that of the first `new` ones.
pub fn consistency<H: Hashes>(hashes: &H, old: u64, new: u64) -> Result<Option<Vec<Hash>>, H::Error> {
    if old > new {
        return Ok(None);
    }
    if old == 0 || old == new {
        return Ok(Some(Vec::new()));
    }
    let (mut low, mut high) = (0, new);
    let mut siblings = Vec::new();
    while high != old {
        let middle = low + split(high - low);
        if old <= middle {
            siblings.push((middle, high));
            high = middle;
        } else {
            siblings.push((low, middle));
            low = middle;
        }
    }
    let mut path = Vec::new();
    if low > 0 {
        path.push(range(hashes, low, high)?);
    }
    for (low, high) in siblings.into_iter().rev() {
        path.push(range(hashes, low, high)?);
    }
    Ok(Some(path))
}

/// The root of the first `size` leaves.
pub fn root<H: Hashes>(hashes: &H, size: u64) -> Result<Hash, H::Error> {
    if size == 0 { Ok(Hash::empty()) } else { range(hashes, 0, size) }
}

/// Checks a proof that the leaf with this hash is leaf `index` of the tree with this root.
pub fn check_inclusion(
    leaf: Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range { of: index, size });
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = Hash::node(*sibling, hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = Hash::node(hash, *sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    match (last == 0, hash == root) {
        (false, _) => Err(ProofError::Length),
        (true, false) => Err(ProofError::Root),
        (true, true) => Ok(()),
    }
}

/// Checks a proof that the tree of `old` leaves with the first root is the beginning of the other.
pub fn check_consistency(
    old: u64,
    old_root: Hash,
    new: u64,
    new_root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Range { of: old, size: new });
    }
    if old == 0 || old == new {
        let roots_fit = if old == 0 { old_root == Hash::empty() } else { old_root == new_root };
        return match (proof.is_empty(), roots_fit) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let mut proof = proof.iter().copied();
    let first = if old.is_power_of_two() { old_root } else { proof.next().ok_or(ProofError::Length)? };
    let (mut from_old, mut from_new) = (first, first);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            from_old = Hash::node(sibling, from_old);
            from_new = Hash::node(sibling, from_new);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            from_new = Hash::node(from_new, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    match (last == 0, from_old == old_root && from_new == new_root) {
        (false, _) => Err(ProofError::Length),
        (true, false) => Err(ProofError::Root),
        (true, true) => Ok(()),
    }
}

/// The root over the leaves `low..high`, where `low` is a multiple of the next power of two.
fn range<H: Hashes>(hashes: &H, low: u64, high: u64) -> Result<Hash, H::Error> {
    let size = high - low;
    if size.is_power_of_two() {
        let height = size.trailing_zeros();
        return hashes.perfect(u8::try_from(height).unwrap_or(63), low >> height);
    }
    let middle = low + split(size);
    Ok(Hash::node(range(hashes, low, middle)?, range(hashes, middle, high)?))
}

/// The largest power of two below `size`.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

#[cfg(test)]
mod tests;
