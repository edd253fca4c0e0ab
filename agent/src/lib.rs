//! What runs on each node: it knows its processes, keeps their keys, and follows its server.
//!
//! [`run`] puts it together. `spine.rs` decides and is pure; `shell.rs` carries out; `callers.rs` and
//! `identities.rs` answer processes from what the spine published, and never queue behind it.

mod alarms;
mod anew;
mod authorize;
mod callers;
mod clock;
pub mod config;
mod doors;
mod explain;
mod identities;
mod issue;
mod jitter;
mod keys;
mod launch;
mod matching;
mod publication;
mod reactions;
mod replica;
mod report;
mod rotation;
mod run;
mod shell;
mod spine;
pub mod spool;
mod state;
mod taint;
mod tasks;
#[cfg(test)]
mod testing;
mod tokens;
mod upstream;
mod view_file;
mod watching;

pub use config::Config;
pub use matching::{Almost, Facts, Index};
pub use run::{Error, Serving, run};
pub use state::has_joined;
