//! Evidence: records of what was decided and done, the chain that a node makes of its own, and the Merkle
//! log that a server makes of everybody's.
//!
//! | file | holds |
//! |---|---|
//! | `record` | what a record says, and its one form as bytes |
//! | `kind` | which records there are |
//! | `keys` | digests of arguments and personal payloads under a tenant's keys |
//! | `chain` | each record of a node names the one before it |
//! | `flood` | what happens often is counted |
//! | `spool/` | how a node's chain lies on disk, and what recovery makes of it |
//! | `head` | what a node signs of its chain, so that it cannot lose its end unseen |
//! | `tree/` | RFC 6962 hashes, proofs, C2SP tiles, bundles, signed notes and checkpoints |
//! | `verify` | a whole log recomputed |
//!
//! Everything here is pure: who writes the bytes to a disk, sends or signs them is not decided here.

pub mod chain;
pub mod flood;
mod hash;
pub mod head;
pub mod keys;
mod kind;
mod record;
pub mod spool;
pub mod tree;
pub mod verify;

pub use chain::{Chain, Link, Recorded};
pub use hash::Hash;
pub use head::{Head, SignedHead};
pub use keys::{ArgsDigest, Commitment, Sealed, TenantKey};
pub use kind::Kind;
pub use record::{Decision, Labels, MAX_RECORD, Outcome, Placed, Record, RecordError};
