//! Whether a task may do what it asks for, at this moment: the one place that decides.
//!
//! Everything here is pure: no clock, no randomness, no I/O. A door parses a [`ToolCall`] and says who asks;
//! the agent adds what it measures (a [`Situation`]), [`judge`]s, makes the [`Verdict`] durable and gets a
//! [`permit::Permit`] for it. What a result carries is joined into the task before it is released
//! ([`labels`], [`Chain::raise`]).
//!
//! Nothing widens: scopes are met by set algebra before any policy is asked, policies come in three layers that
//! must all agree, labels rise, an ended task stays ended, and whatever cannot be decided is denied.

mod call;
pub mod chain;
mod denial;
mod facts;
mod json;
mod judge;
pub mod labels;
mod now;
pub mod permit;
pub mod policy;
#[cfg(test)]
mod testing;
mod verdict;
mod world;

pub use call::{Argument, Arguments, BadCall, Claimed, MAX_NOTE, ToolCall};
pub use chain::Chain;
pub use denial::{Code, Denial, Refused};
pub use json::{BadJson, Json, Limits};
pub use judge::{Freshness, Situation, awaits_the_server, judge, tier_of, visible};
pub use now::Now;
pub use permit::Permit;
pub use policy::Policies;
pub use verdict::{Decision, Lowered, Stored, Verdict};
pub use world::World;
