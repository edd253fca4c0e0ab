//! Writ's only binary: every verb of the command line, and the place where server and agent meet.
//!
//! `cli` holds one file for each noun of the command line; `up` keeps a server and an agent running
//! side by side; `attest` is what `writ attest test` does; `demo` is the whole story in a temporary directory; `wire` speaks to an agent as a
//! workload does. Nothing else in the workspace depends on this.

#[cfg(feature = "agent")]
mod attest;
mod cli;
#[cfg(all(feature = "server", feature = "agent"))]
mod demo;
mod identity;
#[cfg(all(feature = "server", feature = "agent"))]
mod up;
mod validate;
mod wire;

fn main() -> std::process::ExitCode {
    cli::main()
}
