//! Backups: everything that a server needs to be itself again, sealed in one file.
//!
//! `create` copies a running server's state and seals it on the way out: no key is ever written down in
//! clear. [`restore`] opens and checks a backup aside, and puts it into its place in one step, as a new
//! log in which nothing that had ended counts again (docs/decisions/0014-backups.md).

pub mod age;
mod archive;
pub(crate) mod create;
pub mod restore;

pub use archive::{Content, Manifest};
