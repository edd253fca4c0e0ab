//! The log on disk. It knows no nouns: objects are keys and bodies to it, records are bytes.
//!
//! Five verbs: [`Log::load`] gives the objects as they are, [`Log::commit`] makes a group of commits
//! durable together, [`Log::tail`] repeats commits, [`Log::compact`] forgets old events,
//! [`Log::backup`] copies. What a commit means, and whether it may be, is decided in `registry`.

mod error;
mod log;

pub use error::{Row, StoreError};
pub use log::{Loaded, Log};
