//! What it costs to hear of what processes do, and how soon it is heard; as root:
//! `cargo run --release -p writ-peer --example cost_of_watching`.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use peer::{Executions, Peer, Watch};
use tokio::runtime::Runtime;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::new()?;
    let [mut alone, mut heard, mut closely, mut executed, mut noticed] = [const { Vec::new() }; 5];
    // In turns, so that whatever else the machine does meets both.
    for _ in 0..BLOCKS {
        run_programs(&mut alone)?;
        let watch = Arc::new(runtime.block_on(async { Watch::open() }));
        let running = watch.clone();
        let hearing = runtime.spawn(async move { running.run().await });
        let executions = Executions::open()?;
        run_programs(&mut heard)?;

        let peer = Arc::new(Peer::open(std::process::id())?);
        peer.cgroup()?;
        let file_system = rustix::fs::fstatfs(peer.open_exe()?)?.f_type as u64;
        for _ in 0..IN_A_BLOCK {
            timed(&mut closely, || peer.check_closely())?;
            timed(&mut executed, || executions.of(&peer, peer.image(), file_system));
        }
        // `sh` says that it is there, and becomes another program when it is told to.
        let mut child =
            Command::new("sh").args(["-c", "read word; exec sleep 1000"]).stdin(Stdio::piped()).spawn()?;
        let caller = Arc::new(settled(child.id())?);
        let watched = watch.watch(&caller);
        let told = child.stdin.take().ok_or("piped")?;
        timed(&mut noticed, || {
            drop(told);
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), watched.changed()).await })
        })?;
        child.kill()?;
        child.wait()?;
        hearing.abort();
    }
    let rows = [
        ("exec-alone", alone),
        ("exec-heard", heard),
        ("closely", closely),
        ("executed", executed),
        ("noticed", noticed),
    ];
    rows.into_iter().for_each(|(name, times)| report(name, times));
    Ok(())
}

/// The process once it runs a shell: right after it was made it still runs this program.
fn settled(pid: u32) -> Result<Peer, Box<dyn std::error::Error>> {
    let own = Peer::open(std::process::id())?.image();
    loop {
        let peer = Peer::open(pid)?;
        if !peer.image().is(&own) {
            return Ok(peer);
        }
    }
}

fn run_programs(times: &mut Vec<Duration>) -> std::io::Result<()> {
    for _ in 0..IN_A_BLOCK {
        timed(times, || Command::new("true").status())?;
    }
    Ok(())
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = work();
    times.push(begin.elapsed());
    done
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let micros = |index: usize| times[index].as_secs_f64() * 1e6;
    let (last, middle) = (times.len() - 1, times.len() / 2);
    println!(
        "{name:10} min {:8.2} median {:8.2} p99 {:8.2} µs",
        micros(0),
        micros(middle),
        micros(last * 99 / 100)
    );
}

const BLOCKS: usize = 100;
const IN_A_BLOCK: usize = 20;
