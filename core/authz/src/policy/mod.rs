//! Policies: Cedar texts, compiled once when they are pushed, sliced when they are asked.
//!
//! Three layers are evaluated apart: the platform's may only forbid, the actor's tenant must permit, and the
//! resource's owner must permit. An error in any policy that could apply denies: Cedar by itself skips a
//! policy that errs, and a forbid that is skipped would allow.

mod bare;
mod compile;
#[cfg(test)]
mod corpus;
mod mentions;
mod rule;
mod schema;
mod slices;
mod split;
#[cfg(test)]
mod tests;

pub use bare::{Bare, BareInput, authorize as authorize_bare};
pub use compile::{Fault, Owners, Policies, check};
pub(crate) use mentions::Mentions;
#[cfg(test)]
pub(crate) use schema::schema;
pub use schema::{DEFAULTS, DEFAULTS_NAME, SCHEMA};
pub(crate) use slices::{Lineage, Slice, Slices};
