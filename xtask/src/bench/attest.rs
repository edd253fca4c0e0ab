//! What it costs to know who a process is, and how soon it is known that it is no longer that process.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Pace;
use super::load::{Figures, How, Load};
use super::subject::Subject;
use super::table::{Row, Table};
use crate::tools::{self, cargo};

/// Facts that the kernel alone answers; no process has them, so that asking for them gives nobody anything.
const KERNEL_ONLY: [&str; 4] = [
    "unix:user:nobody-at-all",
    "unix:supplementary_group:nobody-at-all",
    "unix:path:/nobody/at/all",
    "unix:sha256:0000000000000000000000000000000000000000000000000000000000000000",
];

/// Changes that end a process's streams.
const EVENTS: [(&str, &str); 4] = [
    ("exit", "a process exits"),
    ("exec", "it executes another program"),
    ("setuid", "it changes its uid"),
    ("cgroup", "it is moved to another cgroup"),
];

pub(super) fn attest(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    by_itself(pace, table)?;
    added_to_a_first_request(load, pace, table)?;
    until_closed(load, pace, table)?;
    of_platforms(table)
}

/// The examples measure inside one process, without a socket between.
fn by_itself(pace: &Pace, table: &mut Table) -> Result<()> {
    let mut holding = Vec::new();
    let mut attesting = Vec::new();
    for _ in 0..pace.runs {
        holding.push(example("writ-peer", "cost_of_holding")?);
        attesting.push(example("writ-attestors", "cost_of_attesting")?);
    }
    let row = |what: &str, runs: &[BTreeMap<String, f64>], key: &str| -> Result<Row> {
        let values: Option<Vec<f64>> = runs.iter().map(|run| run.get(key).copied()).collect();
        Ok(Row::new(what, values.with_context(|| format!("the example did not measure `{key}`"))?))
    };
    table.add(row("pin a caller when it connects, µs", &holding, "pin")?);
    table.add(row("re-check of a pinned caller, µs", &holding, "check")?.at_most(10.0));
    table.add(row(
        "floor: the same files of /proc read once, without a look at them, µs",
        &attesting,
        "floor",
    )?);
    let all = "every fact that the kernel alone answers, hash and names known, µs";
    table.add(row(all, &attesting, "all")?.at_most(100.0));
    Ok(())
}

/// The medians that an example of a room prints, by the names of its rows.
fn example(package: &str, name: &str) -> Result<BTreeMap<String, f64>> {
    let told = tools::output(cargo("run").args(["--quiet", "--release", "-p", package, "--example", name]))?;
    Ok(told.lines().filter_map(median).collect())
}

/// `check    min   1.2 median   1.3 p99   2.0 µs` is 1.3.
fn median(line: &str) -> Option<(String, f64)> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let value = words.skip_while(|word| *word != "median").nth(1)?;
    Some((name, value.parse().ok()?))
}

/// The same client with and without an entry that asks for all of it.
fn added_to_a_first_request(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let (mut without, mut added) = (Vec::new(), Vec::new());
    for _ in 0..pace.runs {
        let subject = Subject::up()?;
        subject.entry("/attest", &subject.own_uid(), "local")?;
        subject.ready_for_workloads(load)?;
        let socket = subject.workload_socket();
        let p50 = || Ok::<_, anyhow::Error>(load.fetch(&socket, 1, pace.seconds, How::Lean)?.p50_us);
        let least = p50()?;
        for (n, selector) in KERNEL_ONLY.iter().enumerate() {
            subject.entry(&format!("/nobody/{n}"), selector, "local")?;
        }
        // The first of them fills the agent's memory.
        let _ = p50()?;
        without.push(least);
        added.push(p50()? - least);
    }
    table.add(Row::new("first request of a process known by its uid, p50, µs", without));
    let row = Row::new("user, groups, path and hash added to a first request, p50, µs", added);
    table.add(row.at_most(100.0));
    Ok(())
}

/// From what happens to a process until its open stream is closed.
fn until_closed(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let subject = Subject::up()?;
    subject.entry("/attest", &subject.own_uid(), "local")?;
    subject.ready_for_workloads(load)?;
    let (socket, rounds) = (subject.workload_socket(), pace.rounds.to_string());
    for (kind, what) in EVENTS {
        let run = || {
            let arguments = ["events", "--socket", &socket, "--kind", kind, "--rounds", &rounds];
            Figures::read(&load.ask(&arguments)?)
        };
        let figures: Vec<Figures> = (0..pace.runs).map(|_| run()).collect::<Result<_>>()?;
        let of = |pick: fn(&Figures) -> f64| figures.iter().map(move |one| pick(one) / 1e3);
        table.add(Row::new(format!("{what} until its stream is closed, p50, ms"), of(|one| one.p50_us)));
        let worst = Row::new(format!("{what} until its stream is closed, p99, ms"), of(|one| one.p99_us));
        table.add(worst.at_most(20.0));
    }
    Ok(())
}

/// Engines, kubelets and systemd, where one answers here: the first process of each kind that is found is
/// explained twice, since the second answer comes from the agent's memory.
fn of_platforms(table: &mut Table) -> Result<()> {
    let subject = Subject::up()?;
    for name in ["docker", "k8s", "systemd"] {
        let found =
            processes()?.into_iter().find_map(|pid| took(&subject, &pid, name).map(|took| (pid, took)));
        let Some((pid, first)) = found else {
            println!("    not measured: no process here is known to `{name}`");
            continue;
        };
        table.add(Row::new(format!("facts from {name}, asked for the first time, µs"), [first]));
        let again = (0..20).filter_map(|_| took(&subject, &pid, name));
        let mut again: Vec<f64> = again.collect();
        again.sort_by(f64::total_cmp);
        table.add(Row::new(format!("facts from {name}, from memory, µs"), again));
    }
    Ok(())
}

/// How long an attestor took for a process, if it had anything to say of it.
fn took(subject: &Subject, pid: &str, name: &str) -> Option<f64> {
    let seen = subject.ask(&["explain", "--pid", pid]).ok()?;
    let attestor = seen["attestors"].as_array()?.iter().find(|attestor| attestor["name"] == name)?;
    let start = format!("{name}:");
    let says = |fact: &Value| fact["selector"].as_str().is_some_and(|selector| selector.starts_with(&start));
    seen["selectors"].as_array()?.iter().any(says).then(|| attestor["took_us"].as_f64()).flatten()
}

fn processes() -> Result<Vec<String>> {
    let listed = tools::output(Command::new("ls").arg("/proc"))?;
    Ok(listed.lines().filter(|name| name.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_an_example_is_read() {
        let read = |line: &str| median(line);
        assert_eq!(read("check   min   1.20 median   1.30 p99   2.00 µs"), Some(("check".to_owned(), 1.3)));
        assert_eq!(
            read("all  first  9.0, then min 1.0 median 2.0 p99 3.0 µs"),
            Some(("all".to_owned(), 2.0))
        );
        assert_eq!(read(""), None);
    }
}
