//! A program to be a workload with: small, so that stories can copy it and be two programs, and able
//! to do what honest programs do not, such as lending its connection.
//!
//! `fetch SOCKET`, `watch SOCKET`: the usual. `speak`: the same over the connection that is its
//! standard input. `lend SOCKET PROGRAM`: connects, waits for the end of its input, then becomes
//! PROGRAM with the connection as standard input. `turn SOCKET PROGRAM`: is served, then becomes PROGRAM, which drains the
//! connection. `leave SOCKET`: connects, hands the connection to a child and is gone. `open SOCKET N`:
//! holds N streams open, and tells how many are answered. `answer SOCKET HERE`: tells everybody who connects
//! to HERE what it is served, each time over a new connection. `tasks SOCKET`: begins and ends tasks as it is told.
//! `pause`: waits for its end. Each prints JSON lines.
#![expect(clippy::print_stdout, reason = "its product is what it prints")]

use std::env;
use std::io;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use integration_tests::workload::{Svid, Workload, ids};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tonic::Status;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments: Vec<_> = env::args().collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[1..] {
        ["fetch", socket] => {
            say(&Workload::connect(Path::new(socket)).await.fetch().await);
            Ok(())
        }
        ["watch", socket] => watch(Workload::connect(Path::new(socket)).await).await,
        ["speak"] => {
            let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
            watch(Workload::over_std(stream).await).await
        }
        ["lend", socket, program] => {
            let stream = UnixStream::connect(socket)?;
            println!("{}", json!({ "connected": true }));
            io::copy(&mut io::stdin(), &mut io::sink())?;
            Err(Command::new(program).arg("speak").stdin(Stdio::from(OwnedFd::from(stream))).exec())
        }
        ["turn", socket, program] => turn(Path::new(socket), program).await,
        ["drain"] => drain(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?)),
        ["leave", socket] => {
            let stream = OwnedFd::from(UnixStream::connect(socket)?);
            Command::new(env::current_exe()?).arg("speak").stdin(Stdio::from(stream)).spawn().map(drop)
        }
        ["open", socket, count] => open(Path::new(socket), count.parse().map_err(io::Error::other)?).await,
        ["answer", socket, here] => answer(Path::new(socket), Path::new(here)).await,
        ["tasks", socket] => integration_tests::tasks::obey(Path::new(socket)).await,
        ["pause"] => {
            // The first process of a container dies of no signal that it does not take.
            signal(SignalKind::terminate())?.recv().await;
            Ok(())
        }
        _ => Err(io::Error::other(
            "fetch|watch|speak|lend|turn|drain|leave|open|answer|tasks|pause, see the head of its source",
        )),
    }
}

/// Asks once for everybody who connects, and tells them what it was answered.
async fn answer(socket: &Path, here: &Path) -> io::Result<()> {
    for asker in UnixListener::bind(here)?.incoming() {
        let answer = Workload::connect(socket).await.fetch().await;
        asker?.write_all(told(&answer).to_string().as_bytes())?;
    }
    Ok(())
}

/// Prints each message until the stream has ended, and then how.
async fn watch(workload: Workload) -> io::Result<()> {
    let mut stream = workload.watch();
    loop {
        let message = stream.next().await;
        say(&message);
        if message.is_err() {
            return Ok(());
        }
    }
}

/// Is served once, and becomes another program while its stream is open.
async fn turn(socket: &Path, program: &str) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let kept = stream.try_clone()?;
    say(&Workload::over_std(stream).await.watch().next().await);
    Err(Command::new(program).arg("drain").stdin(Stdio::from(OwnedFd::from(kept))).exec())
}

/// Reads what still comes over a connection, and says how much, what and that it ended.
fn drain(mut stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    println!("{}", json!({ "turned": true }));
    let mut bytes = Vec::new();
    // A reset is an end too: there was something on its way that nobody read any more.
    let closed = match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    };
    let svid = bytes.windows(9).any(|window| window == b"spiffe://");
    println!("{}", json!({ "closed": closed, "svid": svid }));
    Ok(())
}

/// Holds streams open on connections of a hundred each, until its input ends. At the word `again` it ends
/// them and asks as often, at `count` it says how many of them are answered.
async fn open(socket: &Path, count: usize) -> io::Result<()> {
    let mut connections = Vec::new();
    for _ in 0..count.div_ceil(100) {
        connections.push(Workload::connect(socket).await);
    }
    let (sender, mut words) = mpsc::unbounded_channel();
    thread::spawn(move || io::stdin().lines().map_while(Result::ok).try_for_each(|word| sender.send(word)));
    let (mut held, mut answered) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    while let Some(word) = words.recv().await {
        if word == "again" {
            held.shutdown().await;
            answered = Arc::default();
            for number in 0..count {
                let (mut stream, answered) =
                    (connections[number % connections.len()].watch(), answered.clone());
                held.spawn(async move {
                    while stream.next().await.is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        // There is one thread: after some rounds what was to be written is, and what was to be read too.
        for _ in 0..1000 {
            yield_now().await;
        }
        println!("{}", json!({ word: answered.load(Ordering::Relaxed) }));
    }
    Ok(())
}

fn say(answer: &Result<Vec<Svid>, Status>) {
    println!("{}", told(answer));
}

fn told(answer: &Result<Vec<Svid>, Status>) -> Value {
    match answer {
        Ok(svids) => {
            let serials: Vec<_> = svids.iter().map(|svid| svid.serial.clone()).collect();
            json!({ "ids": ids(svids), "serials": serials })
        }
        Err(status) => json!({ "code": format!("{:?}", status.code()), "message": status.message() }),
    }
}
