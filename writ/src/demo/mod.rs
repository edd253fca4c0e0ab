//! `writ demo`: the whole story on one machine, in a temporary directory.
//!
//! Nothing here is told that did not happen: `story` does things and prints what came of them, and any
//! other outcome ends the demo with exit code 1. The programs of the story are copies of this binary
//! (`actor`), each with another last word, so that each has an inode and a sum of its own.

pub(crate) mod actor;
mod program;
mod stage;
mod story;

pub(crate) use story::run;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ demo                     takes seconds, needs neither root nor network, leaves nothing behind
  writ demo --output json       one line for each step";

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Identify processes by their id alone, as kernels before Linux 6.5 must.
    #[arg(long)]
    insecure_peer_by_pid: bool,
}
