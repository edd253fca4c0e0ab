//! What holding a caller costs: `cargo run --release -p writ-peer --example cost_of_holding`.

use std::{
    os::unix::net::{UnixListener, UnixStream},
    time::{Duration, Instant},
};

use peer::{Peer, Pinning};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("cost.sock");
    let listener = UnixListener::bind(&path)?;
    let [mut pins, mut checks, mut drops, mut texts] = [const { Vec::new() }; 4];
    for _ in 0..5_000 {
        let _client = UnixStream::connect(&path)?;
        let (stream, _) = listener.accept()?;
        let peer = timed(&mut pins, || Peer::pin(&stream, Pinning::ByPidfd))?;
        timed(&mut checks, || peer.check())?;
        timed(&mut texts, || peer.status())?;
        timed(&mut drops, || drop(peer));
    }
    for (name, times) in [("pin", pins), ("check", checks), ("status", texts), ("drop", drops)] {
        report(name, times);
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
        "{name:7} min {:6.2} median {:6.2} p99 {:6.2} µs",
        micros(0),
        micros(middle),
        micros(last * 99 / 100)
    );
}
