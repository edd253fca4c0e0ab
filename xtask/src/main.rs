//! What a newcomer and CI run: `cargo xtask test`, and the longer forms beside it.
//!
//! It needs a Rust toolchain and a C compiler. Everything else it fetches into `target/` or, where
//! that would mean touching the system, names at the end with the one line that would enable it.
#![expect(clippy::print_stdout, reason = "this is a command line tool; its product is what it prints")]

mod arrows;
mod background;
mod bench;
mod flaws;
mod long;
mod report;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tests, measures and checks this repository")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run every check, or only the named steps
    Test {
        /// For example `arrows deny`; none means all of them, in order
        steps: Vec<String>,
    },
    /// Measure a release build and print min, median and max of each figure
    Bench(bench::Options),
    /// Kill server and agent at random points under load, and look for what was lost
    KillTest {
        /// How often; `cargo xtask test` does 50
        #[arg(long, default_value_t = 10_000)]
        cycles: u32,
        /// While calls of tasks are decided, instead of while entries are written
        #[arg(long)]
        decisions: bool,
    },
    /// Attack a real agent with processes that are not what they were, as often as asked (as root)
    Attack {
        /// How often each; `cargo xtask test` does 50 to 10,000
        #[arg(long, default_value_t = 1_000_000)]
        rounds: u32,
        /// Only these, such as `pids` or `crowds::after`
        #[arg(default_value = "")]
        only: String,
    },
    /// Run every property test with many more cases than `cargo xtask test` does
    Fuzz {
        /// Cases of each property; `cargo xtask test` does 256
        #[arg(long, default_value_t = 100_000)]
        cases: u32,
        /// Instead: change IDs, bundles, tokens and certificates for so long each; `cargo xtask test` does 60
        #[arg(long)]
        seconds: Option<u32>,
    },
    /// Compare Writ's verdicts with go-spiffe's on generated IDs, bundles, tokens and chains
    Agree {
        /// How many cases; `cargo xtask test` does 4,000
        #[arg(long, default_value_t = 100_000)]
        cases: u32,
        /// Another seed gives another mixture
        #[arg(long, default_value_t = 1)]
        seed: u32,
    },
    /// Take what keeps flaws and attacks out (`docs/flaws.md`, `docs/attacks.md`) out of a copy, one by one,
    /// and see that a test notices each
    Flaws {
        /// Only those whose description has this in it
        #[arg(long, default_value = "")]
        against: String,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Test { steps } => test::run(&steps),
        Verb::Bench(options) => bench::run(&options),
        Verb::KillTest { cycles, decisions } => long::kill_test(cycles, decisions),
        Verb::Attack { rounds, only } => long::attack(rounds, &only),
        Verb::Fuzz { cases, seconds } => long::fuzz(cases, seconds),
        Verb::Agree { cases, seed } => long::agree(cases, seed),
        Verb::Flaws { against } => flaws::run(&against),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
