//! `cargo xtask bench`: a release build under load, and what the machine's floors are beside it.
//!
//! Each figure is taken several times; the table has the smallest, the middle and the largest, as
//! Markdown, with the measured SPIRE 1.15.3 on a machine of this kind and our own target beside it.
//! Client and daemons share the machine's cores, as they did when SPIRE was measured.

mod attest;
mod authorize;
mod load;
mod opa;
mod subject;
mod table;
mod tasks;

use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::tools::{self, cargo};
use load::{Figures, How, Load, Signed};
use subject::{Subject, Ticks};
use table::{Row, Table};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A short run that proves that the bench works; its figures are noisier
    #[arg(long)]
    quick: bool,
    /// Only these groups: floor, start, fetch, jwt, flood, propagate, hash, attest, streams, sign, entries, tasks, authorize
    groups: Vec<String>,
}

/// How long and how often.
struct Pace {
    runs: usize,
    seconds: f64,
    rounds: usize,
    entries: usize,
    /// Peers that must be built first are measured as well.
    peers: bool,
}

type Group = (&'static str, fn(&Load, &Pace, &mut Table) -> Result<()>);

const GROUPS: [Group; 13] = [
    ("floor", floor),
    ("start", start),
    ("fetch", fetch),
    ("jwt", jwt),
    ("flood", flood),
    ("propagate", propagate),
    ("hash", hash),
    ("attest", attest::attest),
    ("streams", streams),
    ("sign", sign),
    ("entries", entries),
    ("tasks", tasks::tasks),
    ("authorize", authorize::authorize),
];

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let pace = if options.quick {
        Pace { runs: 1, seconds: 0.5, rounds: 20, entries: 10_000, peers: false }
    } else {
        Pace { runs: 3, seconds: 2.0, rounds: 200, entries: 100_000, peers: true }
    };
    for name in &options.groups {
        let known = GROUPS.map(|(group, _)| group);
        ensure!(
            known.contains(&name.as_str()),
            "there is no group `{name}`; the groups are {}",
            known.join(", ")
        );
    }
    let mut missing = Vec::new();
    tools::build_go_clients(&mut missing)?;
    ensure!(missing.is_empty(), "the load client needs Go 1.24 or newer on PATH");
    // In one build, so that what they share is built once.
    let rooms = ["--package", "writ", "--package", "writ-peer", "--package", "writ-attestors"];
    let rooms = [&rooms[..], &["--package", "writ-server-api"]].concat();
    tools::run(cargo("build").args(["--release", "--bins", "--examples"]).args(rooms))?;

    let load = Load::new()?;
    let mut table = Table::default();
    println!("    load average before: {}", load_average()?);
    for (name, group) in GROUPS {
        if options.groups.is_empty() || options.groups.iter().any(|wanted| wanted == name) {
            println!("    measuring: {name}");
            group(&load, &pace, &mut table).with_context(|| format!("while measuring {name}"))?;
        }
    }
    println!("    load average after: {}\n", load_average()?);
    println!("{table}");
    println!(
        "{} cores; {}",
        std::thread::available_parallelism()?,
        fs::read_to_string("/proc/version")?.trim()
    );
    Ok(ExitCode::SUCCESS)
}

fn load_average() -> Result<String> {
    Ok(fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?.trim().to_owned())
}

/// The least that this machine takes for a connection, a synced write and an idle gRPC server.
fn floor(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let mut both = Vec::new();
    for _ in 0..pace.runs {
        both.push(load.ask(&["floor", "--dir", &load.folder(), "--rounds", "2000"])?);
    }
    for (key, what) in [
        ("connect_and_64_bytes", "floor: connect to a Unix socket, 64 bytes there and back, p50, µs"),
        ("append_and_sync_4_KiB", "floor: append 4 KiB and sync, p50, µs"),
    ] {
        let figures: Result<Vec<_>> = both.iter().map(|one| Figures::read(&one[key])).collect();
        table.add(Row::new(what, figures?.iter().map(|figures| figures.p50_us)));
    }
    let server = load.still_server()?;
    for (how, client) in [(How::Lean, "lean client"), (How::Grpc, "grpc-go client")] {
        let (mut rate, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..pace.runs {
            let before = Ticks::of(server.pid())?;
            let figures = load.fetch(server.socket(), 32, pace.seconds, how)?;
            cpu.push(Ticks::of(server.pid())?.since(before) / figures.operations);
            rate.push(figures.rate);
        }
        let name = format!("floor: a grpc-go server that always answers the same, 32 × {client}");
        table.add(Row::new(format!("{name}, /s"), rate));
        table.add(Row::new(format!("{name}, its CPU, µs each"), cpu));
    }
    Ok(())
}

/// Cold start, and memory where nothing happens.
fn start(_: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let (mut ready, mut agent, mut server) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pace.runs.max(2) {
        let subject = Subject::up()?;
        ready.push(subject.start_ms);
        subject.entry("/idle", &subject.own_uid(), "local")?;
        std::thread::sleep(Duration::from_secs(2));
        agent.push(subject::resident_mib(subject.agent_pid())?);
        server.push(subject::resident_mib(subject.server_pid())?);
    }
    table.add(
        Row::new("`writ up` in a new directory until both answer, ms", ready)
            .spire("135 / 209 / 356 + 105 / 150 / 178"),
    );
    table.add(Row::new("idle agent, resident, MiB", agent).spire("57.8–65").at_most(20.0));
    table.add(Row::new("idle server, resident, MiB", server).spire("94.6–95.8").at_most(40.0));
    Ok(())
}

/// A new connection until its first SVID.
fn fetch(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let subject = Subject::up()?;
    subject.entry("/fetch", &subject.own_uid(), "local")?;
    subject.ready_for_workloads(load)?;
    let unknown = ["–"; 4];
    for (clients, how, spire) in [
        (1, How::Lean, unknown),
        (8, How::Lean, unknown),
        (32, How::Lean, unknown),
        (1, How::Grpc, ["661 / 771 / 788", "1.18 / 1.20 / 1.43", "2.9 / 3.3 / 3.4", "1021 / 1044 / 1240"]),
        (8, How::Grpc, ["1462 / 1733 / 1995", "3.7 / 4.2 / 5.1", "9.9 / 11.2 / 12.0", "538 / 622 / 743"]),
        (32, How::Grpc, ["1690 / 2006 / 2090", "14.4 / 15.1 / 18.5", "32 / 37 / 39", "519 / 523 / 646"]),
        (
            8,
            How::GrpcKept,
            ["3679 / 3763 / 3851", "1.76 / 1.77 / 1.81", "5.7 / 5.7 / 7.2", "364 / 367 / 376"],
        ),
    ] {
        let (mut rate, mut p50, mut p99, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..pace.runs {
            let before = Ticks::of(subject.agent_pid())?;
            let figures = load.fetch(&subject.workload_socket(), clients, pace.seconds, how)?;
            cpu.push(Ticks::of(subject.agent_pid())?.since(before) / figures.operations);
            rate.push(figures.rate);
            p50.push(figures.p50_us / 1e3);
            p99.push(figures.p99_us / 1e3);
        }
        let name = match how {
            How::Lean => format!("new connection to first SVID, {clients} × lean client"),
            How::Grpc => format!("new connection to first SVID, {clients} × grpc-go client"),
            How::GrpcKept => format!("new stream on a kept connection, {clients} × grpc-go client"),
        };
        let row = |what: &str, values: Vec<f64>, number: usize| {
            Row::new(format!("{name}, {what}"), values).spire(spire[number])
        };
        let (rates, middle) = (row("/s", rate, 0), row("p50, ms", p50, 1));
        let (worst, used) = (row("p99, ms", p99, 2), row("agent CPU, µs each", cpu, 3));
        let at_32 = clients == 32;
        table.add(if at_32 && matches!(how, How::Lean) { rates.at_least(4500.0) } else { rates });
        table.add(if clients == 1 { middle.at_most(0.75) } else { middle });
        table.add(worst);
        table.add(if at_32 { used.at_most(130.0) } else { used });
    }
    Ok(())
}

/// Tokens: one that is at hand, a new one each time, and one to be judged.
fn jwt(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    for (what, name, spire, target) in [
        ("cached", "JWT-SVID of the same audience", "3767 / 4065 / 4324", 12_000.0),
        ("fresh", "JWT-SVID of a fresh audience", "500 / 501 / 574", 3_000.0),
        ("validate", "JWT-SVID validated", "2744 / 2978 / 3340", 8_000.0),
    ] {
        let (mut rate, mut p50, mut p99) = (Vec::new(), Vec::new(), Vec::new());
        let (mut agent, mut server) = (Vec::new(), Vec::new());
        for _ in 0..pace.runs {
            let subject = Subject::up()?;
            subject.entry("/jwt", &subject.own_uid(), "local")?;
            subject.ready_for_workloads(load)?;
            let before = (Ticks::of(subject.agent_pid())?, Ticks::of(subject.server_pid())?);
            let figures = load.jwt(&subject.workload_socket(), what, pace.seconds)?;
            agent.push(Ticks::of(subject.agent_pid())?.since(before.0) / figures.operations);
            server.push(Ticks::of(subject.server_pid())?.since(before.1) / figures.operations);
            rate.push(figures.rate);
            p50.push(figures.p50_us / 1e3);
            p99.push(figures.p99_us / 1e3);
        }
        let name = format!("{name}, 8 × grpc-go client");
        table.add(Row::new(format!("{name}, /s"), rate).spire(spire).at_least(target));
        table.add(Row::new(format!("{name}, p50, ms"), p50));
        table.add(Row::new(format!("{name}, p99, ms"), p99));
        table.add(Row::new(format!("{name}, agent CPU, µs each"), agent));
        table.add(Row::new(format!("{name}, server CPU, µs each"), server));
    }
    Ok(())
}

/// What a thousand open requests of one process cost another one. The target is relative: at most twice.
fn flood(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let subject = Subject::up()?;
    subject.entry("/flood", &subject.own_uid(), "local")?;
    subject.ready_for_workloads(load)?;
    let worst = || -> Result<Vec<f64>> {
        let figures =
            (0..pace.runs).map(|_| load.fetch(&subject.workload_socket(), 1, pace.seconds, How::Lean));
        figures.map(|figures| Ok(figures?.p99_us / 1e3)).collect()
    };
    let before = worst()?;
    let held = load.hold_streams(&subject.workload_socket(), 1000)?;
    let during = worst()?;
    drop(held);
    let name = "new connection to first SVID, 1 × lean client, p99";
    let least = before.iter().copied().fold(f64::INFINITY, f64::min);
    table.add(Row::new(format!("{name}, alone, ms"), before));
    table.add(
        Row::new(format!("{name}, while another process holds 1000 requests open, ms"), during)
            .at_most(2.0 * least),
    );
    Ok(())
}

/// From the administrator's call to the workload's open stream.
fn propagate(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let subject = Subject::up()?;
    let (admin, socket) = (subject.server_socket(), subject.workload_socket());
    let (rounds, selector) = (pace.rounds.to_string(), subject.own_uid());
    let both = [
        "--admin",
        &admin,
        "--socket",
        &socket,
        "--parent",
        &subject.node(),
        "--rounds",
        &rounds,
        "--selector",
        &selector,
    ];
    let run = |verb: &str| -> Result<Vec<_>> {
        (0..pace.runs).map(|_| load.ask(&[&[verb], &both[..]].concat())).collect()
    };
    let (waiting, held) = (run("waiting")?, run("propagate")?);
    for (answers, key, what, spire) in [
        (&held, "created", "entry created to open stream", ["2664 / 3768 / 4895", "–"]),
        (&held, "deleted", "entry deleted to open stream", ["4310 / 4535 / 4906", "–"]),
        (
            &waiting,
            "reached",
            "entry created to a waiting client",
            ["3218 / 4570 / 5890 (polling each 10 ms)", "–"],
        ),
        (&waiting, "ended", "last entry deleted to the end of its stream", ["5063–5082", "–"]),
        (&waiting, "refused", "first refusal of a process without identity", ["–", "–"]),
    ] {
        let figures: Vec<Figures> =
            answers.iter().map(|one| Figures::read(&one[key])).collect::<Result<_>>()?;
        let middle = figures.iter().map(|figures| figures.p50_us / 1e3);
        table.add(Row::new(format!("{what}, median, ms"), middle).spire(spire[0]).at_most(10.0));
        let worst = figures.iter().map(|figures| figures.p99_us / 1e3);
        table.add(Row::new(format!("{what}, p99, ms"), worst).spire(spire[1]).at_most(100.0));
    }
    Ok(())
}

/// A binary of 169 MB that is known by its hash: the first time, and every later time.
fn hash(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..pace.runs {
        let subject = Subject::up()?;
        let big = load.large_copy(169_000_000)?;
        let sum = tools::output(Command::new("sha256sum").arg(big.program()))?;
        let sum = sum.split_whitespace().next().context("sha256sum printed nothing")?.to_owned();
        subject.entry("/hashed", &format!("unix:sha256:{sum}"), "local")?;
        let socket = subject.workload_socket();
        // An entry that has not arrived yet refuses without hashing, so the first success is the first hash.
        let end = Instant::now() + Duration::from_secs(10);
        let served = loop {
            match big.fetch(&socket, 60.0, 1) {
                Ok(figures) => break figures,
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => {}
            }
        };
        first.push(served.p50_us / 1e3);
        later.push(big.fetch(&socket, pace.seconds, 0)?.p50_us / 1e3);
    }
    table.add(Row::new("169 MB binary by sha256, first time, ms", first).spire("117 / 119 / 121"));
    table.add(
        Row::new("169 MB binary by sha256, later, p50, ms", later).spire("117 / 119 / 121").at_most(1.0),
    );
    Ok(())
}

/// Streams that are open and silent.
fn streams(load: &Load, _: &Pace, table: &mut Table) -> Result<()> {
    let subject = Subject::up()?;
    subject.entry("/streams", &subject.own_uid(), "local")?;
    subject.ready_for_workloads(load)?;
    let before = subject::resident_mib(subject.agent_pid())?;
    let count = 1000;
    let held = load.hold_streams(&subject.workload_socket(), count)?;
    let after = subject::resident_mib(subject.agent_pid())?;
    drop(held);
    #[expect(clippy::cast_precision_loss, reason = "a thousand is exact")]
    let each = (after - before) * 1024.0 / count as f64;
    table.add(Row::new("1000 open streams, each on its own connection, KiB each", [each]).spire("39.8"));
    Ok(())
}

/// Signing over the connection of an agent, each SVID recorded first; and the signer of tokens alone.
fn sign(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let (keys, tokens) = (["2891 / 2981 / 3040", "6479 / 6674 / 6697"], ["1272 / 1371 / 1424", "–"]);
    for (what, name, spire, least) in [
        (Signed::Keys, "signing", keys, 10_000.0),
        (Signed::Requests, "signing as SPIRE's agents ask", keys, 10_000.0),
        (Signed::Tokens, "signing tokens", tokens, 3_000.0),
    ] {
        for (connections, spire) in [1, 4].into_iter().zip(spire) {
            let (mut rate, mut cpu) = (Vec::new(), Vec::new());
            for _ in 0..pace.runs {
                let subject = Subject::up()?;
                let before = Ticks::of(subject.server_pid())?;
                let figures = load.sign(&subject, what, connections, pace.seconds)?;
                cpu.push(Ticks::of(subject.server_pid())?.since(before) / figures.operations);
                rate.push(figures.rate);
            }
            let name = format!("{name} in batches of 100, {connections} connections");
            table.add(Row::new(format!("{name}, SVIDs/s"), rate).spire(spire).at_least(least));
            table.add(Row::new(format!("{name}, server CPU, µs each"), cpu));
        }
    }
    if pace.runs == 1 {
        return Ok(()); // its test would need a release build of its own
    }
    let alone = (0..pace.runs).map(|_| signer_alone()).collect::<Result<Vec<_>>>()?;
    table.add(Row::new("the signer of tokens alone, one thread, tokens/s", alone).at_least(30_000.0));
    Ok(())
}

/// What the server's own test tells, because the product has no such mode.
fn signer_alone() -> Result<f64> {
    let mut test = cargo("test");
    test.args(["--release", "-p", "writ-server", "--lib", "--", "--nocapture", "the_signer_alone"]);
    let told = tools::output(&mut test)?;
    let rate = told.lines().find_map(|line| line.strip_prefix("tokens/s alone: "));
    let rate = rate.and_then(|rate| rate.split(' ').next()).context("the test told no rate")?;
    Ok(rate.parse()?)
}

/// Entries in batches of 500, into an empty server and into one that is full.
fn entries(load: &Load, pace: &Pace, table: &mut Table) -> Result<()> {
    let (mut empty, mut full, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pace.runs {
        let subject = Subject::up()?;
        empty.push(load.entries(&subject, 0, 10_000)?.rate);
        if pace.entries > 10_000 {
            load.entries(&subject, 10_000, pace.entries - 10_000)?;
            full.push(load.entries(&subject, pace.entries, 10_000)?.rate);
            resident.push(subject::resident_mib(subject.server_pid())?);
        }
    }
    table.add(Row::new("entries in batches of 500, 0 to 10,000, /s", empty).spire("283").at_least(10_000.0));
    if !full.is_empty() {
        let row = Row::new("entries in batches of 500, with 100,000 there, /s", full);
        table.add(row.spire("247 with 1,000 to 11,000 there").at_least(10_000.0));
        table.add(Row::new("server with 110,000 entries, resident, MiB", resident).spire("138 with 11,000"));
    }
    Ok(())
}
