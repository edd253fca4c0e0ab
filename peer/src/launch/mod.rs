//! Starting a command for a process that asks for it, in a cgroup of its own.
//!
//! The command is a child of this process and never of the asker, so nobody of the asker's user has had a
//! hand in it before its first instruction. It gets what the asker lives in ([`Surroundings`], all of it
//! read from the kernel) and no right more: whatever cannot be taken over is a reason to refuse
//! ([`Confined`]), since this process could otherwise be used to get out of a sandbox.

mod cgroup;
mod files;
mod start;
mod surroundings;

pub use cgroup::{Cgroup, NoCgroup, PREFIX};
pub use files::{AsUser, is_fixed};
pub use start::{CannotStart, Command, Exit, Started};
pub use surroundings::{Confined, Surroundings};
