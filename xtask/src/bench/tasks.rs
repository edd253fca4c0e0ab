//! From an administrator's `task end` to its tombstone at a hundred agents that follow.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Pace;
use super::load::{Figures, Load};
use super::subject::Subject;
use super::table::{Row, Table};
use crate::tools;

const AGENTS: usize = 100;

pub(super) fn tasks(_: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let (mut middle, mut worst, mut begun) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pace.runs {
        let subject = Subject::up()?;
        let program = tools::target().join("release/examples/end_of_tasks");
        let (socket, pin) = (subject.server_socket(), subject.text("server_pin"));
        let mut command = Command::new(program);
        command.args([socket, subject.text("server_address"), pin]);
        command.args([AGENTS.to_string(), pace.rounds.to_string()]);
        let told: Value =
            serde_json::from_str(&tools::output(&mut command)?).context("it printed no JSON")?;
        let ended = Figures::read(&told["ended"])?;
        middle.push(ended.p50_us / 1e3);
        worst.push(ended.p99_us / 1e3);
        begun.push(Figures::read(&told["begun"])?.p50_us / 1e3);
    }
    let name = format!("`task end` at the server to its tombstone at each of {AGENTS} agents");
    table.add(Row::new(format!("{name}, p50, ms"), middle));
    table.add(Row::new(format!("{name}, p99, ms"), worst).at_most(500.0));
    table.add(Row::new(
        "a task begins at the server: decided, committed, SVID and grant signed, p50, ms",
        begun,
    ));
    Ok(())
}
