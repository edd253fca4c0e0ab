//! `writ demo`: the whole story on one machine, in a temporary directory.
//!
//! Nothing here is told that did not happen: `story` (who is who) and `tasks` (who may do what) do things and print
//! what came of them, and any other outcome ends the demo with exit code 1. The programs of the story are copies of
//! this binary (`actor`, and what it does as a software agent, `worker`), each with another last word, so that each has
//! an inode and a sum of its own. `commands` is what an administrator types, `tools` the MCP server behind `gate`.

pub(crate) mod actor;
mod commands;
mod gate;
mod program;
mod stage;
mod story;
mod tasks;
pub(crate) mod tools;
mod worker;

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
