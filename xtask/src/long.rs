//! The long forms of what `cargo xtask test` does briefly.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::tools::{self, cargo};

/// Kill -9 of server and agent under load, as often as asked.
pub(crate) fn kill_test(cycles: u32) -> Result<ExitCode> {
    ensure!(cycles > 0, "nothing would be tested: name at least one cycle with --cycles");
    tools::run(cargo("build").args(["--workspace", "--all-targets"]))?;
    let story = ["--test", "integration", "--", "--nocapture", "kill_nine"];
    tools::run(cargo("test").arg("--workspace").args(story).env("WRIT_KILL_CYCLES", cycles.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Every property test of the workspace with many cases.
pub(crate) fn fuzz(cases: u32) -> Result<ExitCode> {
    ensure!(cases > 0, "nothing would be tested: name at least one case with --cases");
    let every_room = ["--workspace", "--lib", "--no-fail-fast"];
    tools::run(cargo("test").args(every_room).env("PROPTEST_CASES", cases.to_string()))?;
    Ok(ExitCode::SUCCESS)
}
