//! The long forms of what `cargo xtask test` does briefly.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::tools::{self, cargo};

/// Kill -9 of server and agent under load, as often as asked.
pub(crate) fn kill_test(cycles: u32, decisions: bool) -> Result<ExitCode> {
    ensure!(cycles > 0, "nothing would be tested: name at least one cycle with --cycles");
    tools::run(cargo("build").args(["--workspace", "--all-targets"]))?;
    let about = if decisions { "endurance::kills" } else { "kill_nine" };
    let story = ["--test", "integration", "--", "--nocapture", about];
    tools::run(cargo("test").arg("--workspace").args(story).env("WRIT_KILL_CYCLES", cycles.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Every attack on a real agent, as often as asked.
pub(crate) fn attack(rounds: u32, only: &str) -> Result<ExitCode> {
    ensure!(rounds > 0, "nothing would be tried: name at least one round with --rounds");
    tools::run(cargo("build").args(["--workspace", "--bins"]))?;
    let stories = ["--workspace", "--test", "integration", "--", "--nocapture"];
    let name = format!("attacks::{only}");
    let mut test = cargo("test");
    test.args(stories).args(["--test-threads", "1", &name]).env("WRIT_ATTACK_ROUNDS", rounds.to_string());
    tools::run(&mut test)?;
    Ok(ExitCode::SUCCESS)
}

/// Every property test of the workspace with many cases, or what is read from strangers for some time.
pub(crate) fn fuzz(cases: u32, seconds: Option<u32>) -> Result<ExitCode> {
    if let Some(seconds) = seconds {
        return fuzz_formats(seconds).map(|()| ExitCode::SUCCESS);
    }
    ensure!(cases > 0, "nothing would be tested: name at least one case with --cases");
    let every_room = ["--workspace", "--lib", "--no-fail-fast"];
    tools::run(cargo("test").args(every_room).env("PROPTEST_CASES", cases.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// IDs, bundles, tokens and certificates, each changed at random for so long.
pub(crate) fn fuzz_formats(seconds: u32) -> Result<()> {
    let properties = ["--package", "writ-spiffe", "--lib", "--no-fail-fast", "fuzz::"];
    tools::run(cargo("test").args(properties).env("WRIT_FUZZ_SECONDS", seconds.to_string()))
}

/// Writ and go-spiffe on as many generated cases as asked.
pub(crate) fn agree(cases: u32, seed: u32) -> Result<ExitCode> {
    ensure!(cases > 0, "nothing would be compared: name at least one case with --cases");
    let mut missing = Vec::new();
    tools::build_go_clients(&mut missing)?;
    ensure!(missing.is_empty(), "go-spiffe needs Go 1.24 or newer on PATH");
    tools::run(cargo("build").args(["--workspace", "--bins"]))?;
    let story = ["--workspace", "--test", "integration", "--", "--nocapture", "agreement"];
    let mut test = cargo("test");
    test.args(story)
        .env("WRIT_AGREEMENT_CASES", cases.to_string())
        .env("WRIT_AGREEMENT_SEED", seed.to_string());
    tools::run(&mut test)?;
    Ok(ExitCode::SUCCESS)
}
