//! What the registry promises, asked from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admission;
mod apply;
mod authorities;
mod backups;
mod bundles;
mod entries;
mod follow;
mod governing;
mod histories;
mod mandates;
mod nodes;
mod returning;
mod support;
mod tasks;
mod work;
