//! A connection speaks for the process that made it, as it was then, and for nobody else.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod support;

use std::{
    io::{IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use support::{Api, Client, DEADLINE, channel_over, child, child_value, fetch, holding, ids, next};

/// Connects, hands the connection to the test, and becomes `sleep` when it is told to.
#[test]
fn lender() {
    let Some(socket) = child_value() else { return };
    let mut test = UnixStream::connect(socket.with_extension("hand-over")).unwrap();
    let connection = UnixStream::connect(&socket).unwrap();
    let descriptors = [connection.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    assert!(rights.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&test, &[IoSlice::new(b"c")], &mut rights, SendFlags::empty()).unwrap();
    test.read_exact(&mut [0]).unwrap();
    let error = Command::new("sleep").arg("1000").exec();
    panic!("sleep cannot be executed: {error}");
}

/// A process of its own that has connected and lent its connection to the test.
struct Lender {
    process: Child,
    line: UnixStream,
}

impl Lender {
    async fn start(socket: &Path) -> (Self, Client) {
        let listener = std::os::unix::net::UnixListener::bind(socket.with_extension("hand-over")).unwrap();
        let process = child("lender", socket).stdout(Stdio::null()).spawn().unwrap();
        let (line, _) = listener.accept().unwrap();
        let connection = receive(&line);
        connection.set_nonblocking(true).unwrap();
        let connection = std::sync::Mutex::new(Some(connection));
        let channel = channel_over(move || {
            let lent = connection.lock().unwrap().take();
            async move { tokio::net::UnixStream::from_std(lent.ok_or(std::io::ErrorKind::NotConnected)?) }
        })
        .await;
        (Self { process, line }, SpiffeWorkloadApiClient::new(channel))
    }

    /// Makes it another program, and returns when it is.
    fn become_sleep(&mut self) {
        self.line.write_all(b"x").unwrap();
        // The other end of the line is closed by exec.
        assert_eq!(self.line.read(&mut [0]).unwrap(), 0);
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn receive(line: &UnixStream) -> UnixStream {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    recvmsg(line, &mut [IoSliceMut::new(&mut byte)], &mut rights, RecvFlags::CMSG_CLOEXEC).unwrap();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return descriptors.next().expect("one was sent").into();
        }
    }
    panic!("no descriptor came");
}

#[tokio::test]
async fn a_process_that_became_another_program_gets_nothing_more() {
    let api = Api::start(holding(&["/a"]));
    let (mut lender, mut client) = Lender::start(&api.path).await;
    let mut stream = fetch(&mut client).await.unwrap();
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://acme.example/a"]);
    lender.become_sleep();
    api.now(holding(&["/b"]));
    let end = next(&mut stream).await.unwrap_err();
    assert!(!end.message().contains("/b"), "{end}");
    // The connection is gone, and with it every other request on it.
    assert!(tokio::time::timeout(DEADLINE, fetch(&mut client)).await.unwrap().is_err());
}

#[tokio::test]
async fn a_request_after_becoming_another_program_closes_the_connection() {
    let api = Api::start(holding(&["/a"]));
    let (mut lender, mut client) = Lender::start(&api.path).await;
    let mut open = fetch(&mut client).await.unwrap();
    next(&mut open).await.unwrap();
    lender.become_sleep();
    assert!(fetch(&mut client).await.is_err());
    assert!(next(&mut open).await.is_err());
}

#[tokio::test]
async fn a_connection_ends_with_its_process_whoever_else_holds_it() {
    let api = Api::start(holding(&["/a"]));
    let (mut lender, mut client) = Lender::start(&api.path).await;
    let mut stream = fetch(&mut client).await.unwrap();
    next(&mut stream).await.unwrap();
    lender.process.kill().unwrap();
    lender.process.wait().unwrap();
    assert!(next(&mut stream).await.is_err(), "closed without any change to push");
}
