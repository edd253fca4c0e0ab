//! The Merkle log: one append-only tree (RFC 6962, RFC 9162 section 2.1) in the files of C2SP's tlog-tiles.
//!
//! | file | holds |
//! |---|---|
//! | `tile` | tiles of hashes, and their paths |
//! | `bundle` | bundles of entries |
//! | `edge` | the right edge of the tree: where it grows, and its root |
//! | `proof` | proofs of inclusion and consistency, made and checked |
//! | `note` | notes signed with Ed25519 |
//! | `checkpoint` | what a log signs: origin, size and root |

pub mod bundle;
pub mod checkpoint;
pub mod edge;
pub mod note;
pub mod proof;
pub mod tile;

pub use bundle::{BadBundle, MAX_ENTRY};
pub use checkpoint::Checkpoint;
pub use edge::{Edge, FullTile};
pub use note::{NoteError, NoteKey, VerifierKey};
pub use proof::{Hashes, ProofError};
pub use tile::Tile;

use crate::Hash;

/// The root of a perfect subtree over these hashes, of which there must be a power of two.
pub(crate) fn fold(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::empty(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            Hash::node(fold(left), fold(right))
        }
    }
}
