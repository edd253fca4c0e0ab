//! What can be proved about a process, as selectors: one file for each attestor.
//!
//! An attestor is asked for what some entry wants to know ([`Wanted`]) of a process that is held
//! ([`peer::Peer`]), and answers with [`Evidence`]: facts, each with where it comes from and how strong
//! it is, and notes on what could not be said. [`selectors`] is pure and says, when an entry is written,
//! which of its selectors are weak or will never match.
//!
//! Not here: which entries match (`registry`), and who may ask (`agent`).

mod builtin;
pub mod cgroups;
mod config;
mod evidence;
pub mod executables;
mod file;
#[cfg(test)]
mod fuzz;
pub mod https;
pub mod kube;
mod news;
pub mod node;
mod recent;
pub mod selectors;
mod turns;
mod wanted;
pub mod workload;

pub use config::{BadConfig, Config};
pub use evidence::{Evidence, Fact, Strength};
pub use news::News;
pub use wanted::Wanted;
pub use workload::{Said, Standing, State, Subject, WorkloadAttestor, WorkloadAttestors};
