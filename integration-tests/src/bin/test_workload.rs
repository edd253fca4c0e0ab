//! A program to be a workload with: small, so that stories can copy it and be two programs, and able
//! to do what honest programs do not, such as lending its connection.
//!
//! `fetch SOCKET`, `watch SOCKET`: the usual. `speak`: the same over the connection that is its
//! standard input. `lend SOCKET PROGRAM`: connects, waits for the end of its input, then becomes
//! PROGRAM with the connection as standard input. `turn SOCKET PROGRAM`: is served, then becomes PROGRAM, which drains the
//! connection. `leave SOCKET`: connects, hands the connection to a child and is gone. `open SOCKET N`:
//! holds N streams open. Each prints JSON lines.
#![expect(clippy::print_stdout, reason = "its product is what it prints")]

use std::env;
use std::io;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use integration_tests::workload::{Svid, Workload, ids};
use serde_json::json;
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
        _ => {
            Err(io::Error::other("fetch|watch|speak|lend|turn|drain|leave|open, see the head of its source"))
        }
    }
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
    let closed = stream.read_to_end(&mut bytes).is_ok();
    let svid = bytes.windows(9).any(|window| window == b"spiffe://");
    println!("{}", json!({ "closed": closed, "svid": svid }));
    Ok(())
}

/// Opens streams on connections of a hundred each, and holds them until its input ends.
async fn open(socket: &Path, count: usize) -> io::Result<()> {
    let mut held = Vec::new();
    let mut workload = Workload::connect(socket).await;
    for number in 0..count {
        if number % 100 == 99 {
            workload = Workload::connect(socket).await;
        }
        let mut stream = workload.watch();
        held.push(tokio::spawn(async move { while stream.next().await.is_ok() {} }));
    }
    println!("{}", json!({ "open": held.len() }));
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    println!("{}", json!({ "ended": held.iter().filter(|stream| stream.is_finished()).count() }));
    Ok(())
}

fn say(answer: &Result<Vec<Svid>, Status>) {
    match answer {
        Ok(svids) => {
            let serials: Vec<_> = svids.iter().map(|svid| svid.serial.clone()).collect();
            println!("{}", json!({ "ids": ids(svids), "serials": serials }));
        }
        Err(status) => {
            println!("{}", json!({ "code": format!("{:?}", status.code()), "message": status.message() }));
        }
    }
}
