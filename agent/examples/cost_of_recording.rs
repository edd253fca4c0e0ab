//! What it costs to record before permitting: `cargo run --release -p writ-agent --example cost_of_recording [DIR]`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use agent::spool::{Spool, Terms};
use audit::{Kind, Record};
use spiffe::{PrivateKey, Timestamp};
use tokio::task::JoinSet;

const RECORDS: usize = 5_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here =
        tempfile::tempdir_in(std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from))?;
    let key = PrivateKey::generate()?;
    let spool = Spool::open(Terms::new(here.path().join("spool")), Some("node"), &key)?;
    report("fdatasync of 600 bytes", sync(here.path().join("plain"))?);
    for callers in [1, 2, 8, 32] {
        let begin = Instant::now();
        let mut recording = JoinSet::new();
        for _ in 0..callers {
            let spool = spool.clone();
            recording.spawn(async move {
                let mut times = Vec::with_capacity(RECORDS);
                for n in 0..RECORDS {
                    let begin = Instant::now();
                    spool.record(record(n)).await?;
                    times.push(begin.elapsed());
                }
                Ok::<_, agent::spool::Unrecorded>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(recorded) = recording.join_next().await {
            times.extend(recorded??);
        }
        let seconds = begin.elapsed().as_secs_f64();
        report(&format!("{callers} callers, {:.0}/s", times.len() as f64 / seconds), times);
        let end = spool.end().borrow().clone();
        spool.acknowledge(end.spool, end.seq);
    }
    Ok(())
}

fn record(n: usize) -> Record {
    Record {
        chain: Some("01JD0000000000000000000000".to_owned()),
        task: Some("01JD0000000000000000000000".to_owned()),
        task_seq: Some(n as u64),
        actor: Some("spiffe://acme.example/agent/triage".to_owned()),
        tool: Some("mail.send".to_owned()),
        policy_ids: vec!["tenant/allow-mail".to_owned()],
        ..Record::new(Kind::Decision, Timestamp::from_unix_seconds(1_795_000_000))
    }
}

fn sync(path: PathBuf) -> std::io::Result<Vec<Duration>> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::create(path)?;
    file.write_all_at(&vec![0; 1 << 20], 0)?;
    file.sync_all()?;
    let timed = |n: u64| {
        let begin = Instant::now();
        file.write_all_at(&[1; 600], n * 600)?;
        file.sync_data()?;
        Ok(begin.elapsed())
    };
    (0..1000).map(timed).collect()
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let micros = |part: usize| times[(times.len() * part / 1000).min(times.len() - 1)].as_secs_f64() * 1e6;
    println!("{name:28} p50 {:7.1} p90 {:7.1} p99 {:8.1} µs", micros(500), micros(900), micros(990));
}
