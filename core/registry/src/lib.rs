//! The rule who gets what: entries, nodes, tokens and authorities, as one log makes them.
//!
//! A [`Command`] is decided against a [`Registry`] at a [`Moment`]; what it proposes becomes a
//! [`Commit`]; the registry applies commits and says what they touched; a node's view of it follows
//! as [`Delta`]s. All of it is pure: no clock, no randomness, no I/O.

mod apply;
pub mod commit;
pub mod decide;
pub mod delta;
mod history;
mod index;
pub mod objects;
mod record;
mod registry;
pub mod scope;
mod settings;
mod touching;
mod view;

pub use apply::ApplyError;
pub use commit::{Author, Change, Commit, LogId, Revision};
pub use decide::{Command, Decision, Moment, Proposal, Refusal};
pub use delta::{Delta, Follow, Snapshot};
pub use history::{Audience, Touched, TouchedKey};
pub use objects::{Key, Object, Stored, Versioned};
pub use record::Record;
pub use registry::Registry;
pub use settings::{Settings, TaskCaps};
