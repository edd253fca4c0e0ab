//! What attesting a process costs, with an executable of 169 MB:
//! `cargo run --release -p writ-attestors --example cost_of_attesting`.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use attestors::{Config, Wanted, WorkloadAttestors};
use peer::{Executions, Peer};
use spiffe::Selector;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let program = directory.path().join("large");
    fs::copy("/bin/cat", &program)?;
    fs::OpenOptions::new().write(true).open(&program)?.set_len(169_000_000)?;
    let mut process = Command::new(&program).stdin(Stdio::piped()).spawn()?;
    let peer = Arc::new(Peer::open(process.id())?);
    let executions = Executions::open().ok();
    // A file that was written just now is hashed each time.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (name, asked) in [
        ("uid, gid", vec![]),
        ("user", vec!["unix:user:any"]),
        ("groups", vec!["unix:supplementary_gid:0"]),
        ("path", vec!["unix:path:/any"]),
        ("sha256", vec!["unix:sha256:any"]),
        ("all", vec!["unix:user:any", "unix:supplementary_group:any", "unix:path:/any", "unix:sha256:any"]),
    ] {
        let selectors = asked.into_iter().map(str::parse).collect::<Result<Vec<Selector>, _>>()?;
        let wanted: Wanted = selectors.iter().collect();
        let all = WorkloadAttestors::with_executions(&Config::default(), executions.clone())?;
        let mut times = Vec::new();
        for _ in 0..2_000 {
            let begin = Instant::now();
            let evidence = all.attest(&peer, &wanted).await?;
            times.push(begin.elapsed());
            assert!(evidence.notes.is_empty(), "{:?}", evidence.notes);
        }
        report(name, times);
        if name == "all" {
            report("fresh", of_fresh_processes(&all, &program, &wanted).await?);
        }
    }
    report("floor", floor(process.id())?);
    process.kill()?;
    process.wait()?;
    Ok(())
}

/// The same of processes that were never seen before, of a program that was.
async fn of_fresh_processes(
    all: &WorkloadAttestors,
    program: &Path,
    wanted: &Wanted,
) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let mut times = Vec::new();
    for _ in 0..200 {
        let mut process = Command::new(program).stdin(Stdio::piped()).spawn()?;
        let peer = Arc::new(Peer::open(process.id())?);
        let begin = Instant::now();
        all.attest(&peer, wanted).await?;
        times.push(begin.elapsed());
        process.kill()?;
        process.wait()?;
    }
    Ok(times)
}

/// What the kernel takes for the files that are read of a process, by themselves.
fn floor(pid: u32) -> io::Result<Vec<Duration>> {
    let of = |name: &str| format!("/proc/{pid}/{name}");
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let begin = Instant::now();
        fs::read(of("status"))?;
        fs::read(of("stat"))?;
        fs::read(of("cgroup"))?;
        let link = fs::read_link(of("exe"))?;
        fs::File::open(of("exe"))?.metadata()?;
        fs::metadata(link)?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn report(name: &str, mut times: Vec<Duration>) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let first = micros(times.remove(0));
    times.sort_unstable();
    let (least, middle, p99) = (times[0], times[times.len() / 2], times[times.len() * 99 / 100]);
    let (least, middle, p99) = (micros(least), micros(middle), micros(p99));
    println!("{name:9} first {first:9.1}, then min {least:6.1} median {middle:6.1} p99 {p99:7.1} µs");
}
