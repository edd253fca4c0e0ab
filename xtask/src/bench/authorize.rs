//! Calls that are judged and recorded: how many, how fast, and how soon an end and a new policy are in effect.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Pace;
use super::load::{Figures, Load};
use super::opa;
use super::subject::Subject;
use super::table::{Row, Table};
use crate::tools;

/// About others; one more is about who asks. A layer holds a thousand.
const POLICIES: usize = 999;

/// Key, name, whether the middle or the worst counts, and the target in milliseconds, where there is one.
const TIMES: [(&str, &str, Which, Option<f64>); 14] = [
    ("one", "a call judged and recorded, one client, p50, ms", Which::Middle, Some(0.4)),
    ("one", "a call judged and recorded, one client, p99, ms", Which::Worst, None),
    ("eight", "a call judged and recorded, 8 clients, p50, ms", Which::Middle, None),
    ("eight", "a call judged and recorded, 8 clients, p99, ms", Which::Worst, None),
    ("begun", "a task begins, with its SVID, p50, ms", Which::Middle, Some(5.0)),
    ("ended", "a task is ended by its process and that is acknowledged, p50, ms", Which::Middle, None),
    (
        "last_of_own",
        "a process asks for its task's end to the last permit at home, p50, ms",
        Which::Middle,
        Some(0.3),
    ),
    (
        "last_of_own",
        "a process asks for its task's end to the last permit at home, p99, ms",
        Which::Worst,
        Some(0.3),
    ),
    (
        "last_permit",
        "`task end` at the server to the last permit at home, p99, ms",
        Which::Worst,
        Some(100.0),
    ),
    (
        "after_death",
        "death of a task's process to the last permit for it, p99, ms",
        Which::Worst,
        Some(100.0),
    ),
    (
        "in_effect",
        "push of 1,000 policies, one changed, to the first decision by it, p50, ms",
        Which::Middle,
        Some(40.0),
    ),
    (
        "in_effect",
        "push of 1,000 policies, one changed, to the first decision by it, p99, ms",
        Which::Worst,
        None,
    ),
    ("slowest_meanwhile", "slowest decision meanwhile, p50 of the pushes, ms", Which::Middle, None),
    ("slowest_meanwhile", "slowest decision meanwhile, p99 of the pushes, ms", Which::Worst, None),
];

#[derive(Clone, Copy)]
enum Which {
    Middle,
    Worst,
}

pub(super) fn authorize(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let (mut decisions, mut calls) = (Vec::new(), Vec::new());
    let mut times = vec![Vec::new(); TIMES.len()];
    for _ in 0..pace.runs {
        let subject = Subject::up()?;
        let mut command = Command::new(tools::target().join("release/examples/recorded_decisions"));
        command.args([subject.server_socket(), subject.workload_socket(), subject.text("authz")]);
        command.args([pace.seconds.to_string(), pace.rounds.to_string(), POLICIES.to_string()]);
        let told: Value =
            serde_json::from_str(&tools::output(&mut command)?).context("it printed no JSON")?;
        decisions.push(told["decisions_rate"].as_f64().context("it counted no decisions")?);
        calls.push(told["calls_rate"].as_f64().context("it counted no calls")?);
        for ((key, _, which, _), values) in TIMES.iter().zip(&mut times) {
            let figures = Figures::read(&told[key])?;
            values.push(match which {
                Which::Middle => figures.p50_us / 1e3,
                Which::Worst => figures.p99_us / 1e3,
            });
        }
    }
    table.add(
        Row::new("decisions, recorded, their outcomes too, 8 clients, /s", decisions).at_least(10_000.0),
    );
    table.add(Row::new("whole calls: the next begins when its answer may be released, 8 clients, /s", calls));
    for ((_, name, _, target), values) in TIMES.iter().zip(times) {
        let row = Row::new(*name, values);
        table.add(match target {
            Some(limit) => row.at_most(*limit),
            None => row,
        });
    }
    if pace.peers { opa::beside(load, pace, POLICIES, table) } else { Ok(()) }
}
