//! What strangers may send to any socket: it costs them their connection and nobody else anything.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use integration_tests::admin::{Admin, channel};
use integration_tests::workload::Workload;
use integration_tests::{Writ, eventually, raw, tls};
use tonic::Code;

use crate::own_uid;

/// The beginning of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The four doors of `writ up`, and which process stands behind each.
const DOORS: [(&str, &str); 4] =
    [("workload.sock", "agent"), ("agent.sock", "agent"), ("server.sock", "server"), ("tcp", "server")];

/// A connection to any of them.
trait Door: std::io::Read + std::io::Write {
    fn limit(&self, limit: Duration);
    fn half_close(&self);
}

impl Door for UnixStream {
    fn limit(&self, limit: Duration) {
        self.set_read_timeout(Some(limit)).expect("a socket takes a time limit");
    }
    fn half_close(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Door for TcpStream {
    fn limit(&self, limit: Duration) {
        self.set_read_timeout(Some(limit)).expect("a socket takes a time limit");
    }
    fn half_close(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

fn knock(writ: &Writ, door: &str) -> Box<dyn Door> {
    match door {
        "workload.sock" => Box::new(UnixStream::connect(writ.workload_socket()).expect("it listens")),
        "agent.sock" => Box::new(UnixStream::connect(writ.agent_socket()).expect("it listens")),
        "server.sock" => Box::new(UnixStream::connect(writ.server_socket()).expect("it listens")),
        _ => Box::new(TcpStream::connect(&writ.ready.server_address).expect("it listens")),
    }
}

/// Everybody else is served as before, and by the same processes.
async fn all_is_well(writ: &Writ, after: &str) {
    let fetched = Workload::connect(&writ.workload_socket()).await.fetch().await;
    assert!(fetched.is_ok(), "after {after}: {fetched:?}");
    let listed = Admin::at(&writ.server_socket()).list().await;
    assert!(listed.is_ok(), "after {after}: {listed:?}");
    let _ = writ.run(&["status"]).done();
    let now = (writ.role("server"), writ.role("agent"));
    assert_eq!(now, (writ.ready.server_pid, writ.ready.agent_pid), "a process was replaced after {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_any_socket_is_cut_off_and_changes_nothing() {
    let writ = Writ::up();
    writ.entry("/well", &[&own_uid()]);
    // Not random: a test that fails must fail again.
    let noise: Vec<u8> = (0u32..1 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let with_preface = [PREFACE, &noise].concat();
    let http1 = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    // A settings frame that claims to be sixteen megabytes long.
    let long_frame = [PREFACE, &[0xff, 0xff, 0xff, 0x04, 0, 0, 0, 0, 0], &noise].concat();
    for (door, _) in DOORS {
        for (what, bytes) in [
            ("noise", &noise),
            ("noise after the preface", &with_preface),
            ("HTTP/1.1", &http1),
            ("a long frame", &long_frame),
        ] {
            let mut guest = knock(&writ, door);
            guest.limit(Duration::from_secs(15));
            // It may be cut off while it is still sending.
            let _ = guest.write_all(bytes);
            let mut rest = Vec::new();
            let ended = guest.read_to_end(&mut rest);
            let cut = match ended {
                Ok(_) => true,
                Err(error) => matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
                ),
            };
            assert!(cut, "{what} on {door} keeps its connection");
        }
        all_is_well(&writ, &format!("garbage on {door}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_are_let_go() {
    let writ = Writ::up();
    writ.entry("/well", &[&own_uid()]);
    for (door, _) in DOORS {
        for begun in [&b""[..], &PREFACE[..10], PREFACE] {
            let mut guest = knock(&writ, door);
            guest.write_all(begun).expect("it is only a few bytes");
            guest.half_close();
            guest.limit(Duration::from_secs(15));
            let ended = guest.read_to_end(&mut Vec::new());
            assert!(ended.is_ok(), "half-closed after {} bytes on {door}: {ended:?}", begun.len());
        }
        all_is_well(&writ, &format!("half-open connections on {door}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_silent_connections_delay_nobody_and_are_closed() {
    let writ = Writ::up();
    writ.entry("/well", &[&own_uid()]);
    all_is_well(&writ, "nothing").await;
    for (door, role) in DOORS {
        let open = || fs::read_dir(format!("/proc/{}/fd", writ.role(role))).map_or(0, Iterator::count);
        let before = open();
        let silent: Vec<_> = (0..200)
            .map(|number| {
                let mut guest = knock(&writ, door);
                if number % 2 == 1 {
                    guest.write_all(&PREFACE[..12]).expect("it is only a few bytes");
                }
                guest
            })
            .collect();
        all_is_well(&writ, &format!("200 silent connections on {door}")).await;
        // They are closed by the other side: the preface has five seconds.
        eventually(&format!("silent connections on {door} are closed"), Duration::from_secs(15), || {
            (open() <= before + 8).then_some(())
        });
        drop(silent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_ten_megabytes_is_refused_on_every_socket() {
    let writ = Writ::up();
    writ.entry("/well", &[&own_uid()]);
    // Field 15, a string of ten million bytes.
    let mut message = vec![0x7a, 0x80, 0xad, 0xe2, 0x04];
    message.resize(message.len() + 10_000_000, b'x');
    let server = tls::connect(&writ.ready.server_address, None).await.expect("anybody may shake hands");
    for (door, channel, method) in [
        ("workload.sock", channel(&writ.workload_socket()), "/SpiffeWorkloadAPI/FetchX509SVID"),
        ("workload.sock", channel(&writ.workload_socket()), "/writ.explain.v1.Explain/Explain"),
        ("agent.sock", channel(&writ.agent_socket()), "/writ.explain.v1.Explain/Explain"),
        ("server.sock", channel(&writ.server_socket()), "/spire.api.server.entry.v1.Entry/BatchCreateEntry"),
        ("tcp", server, "/spire.api.server.agent.v1.Agent/AttestAgent"),
    ] {
        let status = raw::call(channel, method, message.clone()).await.expect_err("it is too long");
        let refused = matches!(
            status.code(),
            Code::ResourceExhausted
                | Code::OutOfRange
                | Code::InvalidArgument
                | Code::Unavailable
                | Code::Unknown
        );
        assert!(refused, "{method} on {door}: {status}");
        all_is_well(&writ, &format!("ten megabytes for {method} on {door}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_protobuf_is_refused_on_every_socket() {
    let writ = Writ::up();
    writ.entry("/well", &[&own_uid()]);
    for (channel, method) in [
        (channel(&writ.workload_socket()), "/writ.explain.v1.Explain/Explain"),
        (channel(&writ.agent_socket()), "/writ.explain.v1.Explain/Explain"),
        (channel(&writ.server_socket()), "/spire.api.server.entry.v1.Entry/BatchCreateEntry"),
        (channel(&writ.server_socket()), "/writ.admin.v1.Admin/Apply"),
        (channel(&writ.server_socket()), "/no.such.Service/Method"),
    ] {
        let answer = raw::call(channel, method, vec![0xff; 64]).await;
        assert!(answer.is_err(), "{method} took what is no message");
    }
    all_is_well(&writ, "messages that are none").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_beyond_sixteen_kibibytes_is_refused() {
    let writ = Writ::up();
    writ.entry("/well", &[&own_uid()]);
    let long = "x".repeat(20 << 10);
    let workload = Workload::connect(&writ.workload_socket()).await;
    let answer = workload.watch_with(&[("workload.spiffe.io", "true"), ("x-long", &long)]).next().await;
    assert!(answer.is_err(), "{answer:?}");
    all_is_well(&writ, "long metadata").await;
}
