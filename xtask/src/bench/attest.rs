//! What it costs to know who a process is, and how soon it is known that it is no longer that process.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Pace;
use super::load::{Figures, How, Load};
use super::subject::Subject;
use super::table::{Row, Table};
use crate::tools;

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
    let mut watching = Vec::new();
    let mut judging = Vec::new();
    for _ in 0..pace.runs {
        watching.push(example("cost_of_watching")?);
        holding.push(example("cost_of_holding")?);
        attesting.push(example("cost_of_attesting")?);
        judging.push(example("cost_of_judging_nodes")?);
    }
    let row = |what: &str, runs: &[BTreeMap<String, f64>], key: &str| -> Result<Row> {
        let values: Option<Vec<f64>> = runs.iter().map(|run| run.get(key).copied()).collect();
        Ok(Row::new(what, values.with_context(|| format!("the example did not measure `{key}`"))?))
    };
    table.add(row("pin a caller when it connects, µs", &holding, "pin")?);
    table.add(row("re-check of a pinned caller, µs", &holding, "check")?.at_most(10.0));
    table.add(row("the same with its cgroups, after a move of anybody, µs", &watching, "closely")?);
    table.add(row("what it executed, from the kernel's records, µs", &watching, "executed")?);
    table.add(row("run `true` while nobody watches, µs", &watching, "exec-alone")?);
    table.add(row("run `true` while the agent hears of each exec, µs", &watching, "exec-heard")?);
    table.add(row("an exec until it is heard of, inside one process, µs", &watching, "noticed")?);
    table.add(row(
        "floor: the same files of /proc read once, without a look at them, µs",
        &attesting,
        "floor",
    )?);
    let all = "every fact that the kernel alone answers, hash and names known, µs";
    table.add(row(all, &attesting, "all")?.at_most(100.0));
    let fresh = "the same of a process never seen before, of a program that was, µs";
    table.add(row(fresh, &attesting, "fresh")?.at_most(100.0));
    for (of, key) in [("a chain of 8", "chain"), ("8 namesakes", "namesakes"), ("noise", "noise")] {
        let what = format!("a node's payload of 64 KiB, RSA 4,096 with its slowest exponent, {of}, µs");
        table.add(row(&what, &judging, key)?.at_most(5000.0));
    }
    for (of, key) in [
        ("a forged ID token of 16 KiB, RSA 4,096", "forged"),
        ("64 KiB that are no ID token", "lies"),
        ("64 KiB that are no service account's token", "untrue"),
        (
            "a forged service account's token, until an API server that is not there refuses the question",
            "unasked",
        ),
    ] {
        table.add(row(&format!("a node's payload: {of}, µs"), &judging, key)?.at_most(5000.0));
    }
    Ok(())
}

/// The medians that an example prints, by the names of its rows.
fn example(name: &str) -> Result<BTreeMap<String, f64>> {
    let program = tools::target().join("release/examples").join(name);
    let told = tools::output(&mut Command::new(program))?;
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
    let is_root = fs::metadata("/proc/self")?.uid() == 0;
    for (kind, what) in EVENTS {
        if !is_root && matches!(kind, "setuid" | "cgroup") {
            println!("    not measured: {what}; run as root");
            continue;
        }
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
/// explained again and again, since every later answer comes from the agent's memory.
fn of_platforms(table: &mut Table) -> Result<()> {
    let subject = Subject::up()?;
    let mut found: BTreeMap<&str, (String, f64)> = BTreeMap::new();
    for pid in placed_processes()? {
        let Ok(seen) = subject.ask(&["explain", "--pid", &pid]) else { continue };
        for name in PLATFORMS {
            if let (Some(took), None) = (took(&seen, name), found.get(name)) {
                found.insert(name, (pid.clone(), took));
            }
        }
    }
    for name in PLATFORMS {
        let Some((pid, first)) = found.get(name) else {
            println!("    not measured: no process here is known to `{name}`");
            continue;
        };
        table.add(Row::new(format!("facts from {name}, asked for the first time, µs"), [*first]));
        let again = (0..20).filter_map(|_| took(&subject.ask(&["explain", "--pid", pid]).ok()?, name));
        table.add(Row::new(format!("facts from {name}, from memory, µs"), again));
    }
    Ok(())
}

const PLATFORMS: [&str; 3] = ["docker", "k8s", "systemd"];

/// How long an attestor took for a process, if it had anything to say of it.
fn took(seen: &Value, name: &str) -> Option<f64> {
    let attestor = seen["attestors"].as_array()?.iter().find(|attestor| attestor["name"] == name)?;
    let start = format!("{name}:");
    let says = |fact: &Value| fact["selector"].as_str().is_some_and(|selector| selector.starts_with(&start));
    seen["selectors"].as_array()?.iter().any(says).then(|| attestor["took_us"].as_f64()).flatten()
}

/// Processes that are in some cgroup, few of each.
fn placed_processes() -> Result<Vec<String>> {
    let mut seen: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let cgroups = fs::read(format!("/proc/{name}/cgroup")).unwrap_or_default();
        let is_placed =
            cgroups.split(|byte| *byte == b'\n').any(|line| line.len() > 1 && !line.ends_with(b":/"));
        let count = seen.entry(cgroups).or_default();
        *count += 1;
        if is_placed && *count <= 3 && name.bytes().all(|byte| byte.is_ascii_digit()) {
            pids.push(name);
        }
    }
    Ok(pids)
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
