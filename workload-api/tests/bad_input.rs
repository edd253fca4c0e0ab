//! Clients that misbehave cost little, and nobody else anything.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod support;

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use support::{Api, DEADLINE, fetch, holding, ids, next, raw_status};
use tonic::Code;
use workload_api::{Limits, Standing};

/// Sends bytes and waits until the socket is closed; gives how long that took.
fn closed_after(path: &Path, bytes: &[u8]) -> Duration {
    let since = Instant::now();
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // The socket may be closed while bytes are still being sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the socket was not closed"),
        _ => since.elapsed(),
    }
}

async fn still_serves(api: &Api) {
    let answer = next(&mut fetch(&mut api.client().await).await.unwrap()).await.unwrap();
    assert_eq!(ids(&answer), ["spiffe://acme.example/a"]);
}

#[tokio::test]
async fn garbage_closes_its_own_connection() {
    let api = Api::start(holding(&["/a"]));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let cases: [Vec<u8>; 5] = [
        noise.clone(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        [&preface[..], &noise[..]].concat(),
        // A frame that says it is longer than any frame may be.
        [&preface[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]].concat(),
        // A request on stream 0.
        [&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0, 0, 1, 1, 5, 0, 0, 0, 0, 0x82]].concat(),
    ];
    let path = api.path.clone();
    let closed = tokio::task::spawn_blocking(move || cases.map(|case| closed_after(&path, &case)));
    for after in closed.await.unwrap() {
        assert!(after < Duration::from_secs(5), "closed for what it said, not for being silent: {after:?}");
    }
    still_serves(&api).await;
}

#[tokio::test]
async fn silent_and_half_spoken_connections_are_closed() {
    let api = Api::start(holding(&["/a"]));
    let path = api.path.clone();
    let silent = std::thread::spawn(move || {
        let says: [&[u8]; 2] = [b"", b"PRI * HTTP/2.0\r\n"];
        let ends: Vec<_> = (0..200)
            .map(|n| {
                let path = path.clone();
                std::thread::Builder::new()
                    .stack_size(64 * 1024)
                    .spawn(move || closed_after(&path, says[n % 2]))
                    .unwrap()
            })
            .collect();
        ends.into_iter().map(|end| end.join().unwrap()).collect::<Vec<_>>()
    });
    still_serves(&api).await;
    for after in tokio::task::spawn_blocking(|| silent.join().unwrap()).await.unwrap() {
        assert!(
            (5..DEADLINE.as_secs()).contains(&after.as_secs()),
            "5 seconds are given for a preface, not {after:?}"
        );
    }
}

#[tokio::test]
async fn a_message_beyond_64_kib_is_refused_unread() {
    let api = Api::start(Standing::Nothing);
    let mut message = vec![0; 5 + 10 * 1024 * 1024];
    message[1..5].copy_from_slice(&(10_u32 * 1024 * 1024).to_be_bytes());
    assert_eq!(raw_status(&api.path, &[], message).await, Some(Code::ResourceExhausted as i32));
    // One that says it is short and goes on and on is judged by what it says.
    assert_eq!(raw_status(&api.path, &[], vec![0; 1_000_000]).await, Some(Code::PermissionDenied as i32));
    // One that is no protobuf.
    let nonsense = raw_status(&api.path, &[], vec![0, 0, 0, 0, 2, 0xff, 0xff]).await;
    assert_eq!(nonsense, Some(Code::InvalidArgument as i32));
    // One that ends in the middle.
    assert_eq!(raw_status(&api.path, &[], vec![0, 0, 0, 0, 9, 1]).await, Some(Code::Internal as i32));
    assert_eq!(raw_status(&api.path, &[], vec![]).await, Some(Code::Internal as i32));
    assert_eq!(raw_status(&api.path, &[], vec![1, 0, 0, 0, 0]).await, Some(Code::Unimplemented as i32));
}

#[tokio::test]
async fn metadata_beyond_16_kib_is_refused() {
    let api = Api::start(holding(&["/a"]));
    let long = "x".repeat(17 * 1024);
    assert_eq!(raw_status(&api.path, &[("x-long", &long)], vec![0; 5]).await, None);
    still_serves(&api).await;
}

#[tokio::test]
async fn one_user_has_so_many_connections_and_one_process_so_many_requests() {
    let limits = Limits { connections_per_uid: 2, requests_per_process: 3, ..Limits::default() };
    let api = Api::start_with(holding(&["/a"]), limits);
    let mut client = api.client().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(fetch(&mut client).await.unwrap());
    }
    let refusal = fetch(&mut client).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert_eq!(refusal.message(), "too many open requests of this process; close some, then try again");

    let _second = api.client().await;
    let path = api.path.clone();
    let after = tokio::task::spawn_blocking(move || closed_after(&path, b"")).await.unwrap();
    assert!(after < Duration::from_secs(5), "a third connection is closed at once, not after {after:?}");

    // What is closed may be opened again.
    drop(streams);
    let served = async {
        loop {
            if let Ok(mut stream) = fetch(&mut client).await {
                return next(&mut stream).await;
            }
        }
    };
    assert!(tokio::time::timeout(DEADLINE, served).await.unwrap().is_ok());
}
