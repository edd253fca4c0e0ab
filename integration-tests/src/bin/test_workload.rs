//! A program to be a workload with: small, so that stories can copy it and be two programs, and able
//! to do what honest programs do not, such as lending its connection.
//!
//! `fetch SOCKET`, `watch SOCKET`: the usual. `speak`: the same over the connection that is its
//! standard input. `lend SOCKET PROGRAM`: connects, then becomes PROGRAM with the connection as
//! standard input. `leave SOCKET`: connects, hands the connection to a child and is gone. `open
//! SOCKET N`: holds N streams open. Each prints JSON lines.
#![expect(clippy::print_stdout, reason = "its product is what it prints")]

use std::env;
use std::io;
use std::os::fd::AsFd as _;
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
            Err(Command::new(program)
                .arg("speak")
                .stdin(Stdio::from(std::os::fd::OwnedFd::from(stream)))
                .exec())
        }
        ["leave", socket] => {
            let stream = std::os::fd::OwnedFd::from(UnixStream::connect(socket)?);
            Command::new(env::current_exe()?).arg("speak").stdin(Stdio::from(stream)).spawn().map(drop)
        }
        ["open", socket, count] => open(Path::new(socket), count.parse().map_err(io::Error::other)?).await,
        _ => Err(io::Error::other("fetch|watch|speak|lend|leave|open, see the head of its source")),
    }
}

/// Prints each message until the stream has ended, and then how.
async fn watch(mut workload: Workload) -> io::Result<()> {
    let mut stream = match workload.watch().await {
        Ok(stream) => stream,
        Err(status) => {
            say(&Err(status));
            return Ok(());
        }
    };
    loop {
        let message = stream.next().await;
        say(&message);
        if message.is_err() {
            return Ok(());
        }
    }
}

/// Opens streams on connections of a hundred each, and holds them until its input ends.
async fn open(socket: &Path, count: usize) -> io::Result<()> {
    let mut held = Vec::new();
    let mut workload = Workload::connect(socket).await;
    for number in 0..count {
        if number % 100 == 99 {
            workload = Workload::connect(socket).await;
        }
        let mut asking = workload.clone();
        held.push(tokio::spawn(async move {
            let mut stream = asking.watch().await?;
            while stream.next().await.is_ok() {}
            Ok::<_, Status>(())
        }));
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
