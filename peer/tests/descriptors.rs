//! File descriptors: none is lost, and running out of them passes. Each test counts those of a process of
//! its own.

mod harness;

use std::{fs, time::Duration};

use harness::{Puppet, inside, listen};
use nix::sys::resource::{Resource, setrlimit};
use tokio::{net::UnixStream, time::timeout};

#[test]
fn ten_thousand_connections_leave_no_descriptor_behind() {
    const NAME: &str = "ten_thousand_connections_leave_no_descriptor_behind";
    if !inside(NAME, &["env"]) {
        return;
    }
    runtime().block_on(async {
        let (_directory, listener) = listen();
        let mut parent = Puppet::start();
        let die = format!("connect-and-die {}", listener.path().display());
        let mut before = 0;
        for round in 0..10_000 {
            let (client, (stream, peer)) =
                tokio::join!(UnixStream::connect(listener.path()), listener.accept());
            client.expect("connected");
            peer.check().expect("this very process");
            if round % 10 == 0 {
                parent.order(&die); // the next accept refuses it
                let _ = timeout(Duration::ZERO, peer.exited()).await; // registers it
            }
            drop((stream, peer));
            if round == 100 {
                before = open_descriptors();
            }
        }
        assert_eq!(open_descriptors(), before);
        assert!(listener.counts().refused() >= 999);
    });
}

#[test]
fn a_connection_takes_three_descriptors() {
    const NAME: &str = "a_connection_takes_three_descriptors";
    if !inside(NAME, &["env"]) {
        return;
    }
    runtime().block_on(async {
        let (_directory, listener) = listen();
        let mut caller = Puppet::start();
        caller.order(&format!("connect-many {} 10", listener.path().display()));
        let before = open_descriptors();
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(listener.accept().await);
        }
        assert_eq!(open_descriptors() - before, 30);
    });
}

#[test]
fn running_out_of_descriptors_is_survived_and_those_who_wait_are_served_later() {
    const NAME: &str = "running_out_of_descriptors_is_survived_and_those_who_wait_are_served_later";
    if !inside(NAME, &["env"]) {
        return;
    }
    runtime().block_on(async {
        let (_directory, listener) = listen();
        let mut caller = Puppet::start();
        let limit = open_descriptors() as u64 + 8;
        setrlimit(Resource::RLIMIT_NOFILE, limit, limit).expect("a lower limit");
        caller.order(&format!("connect-many {} 40", listener.path().display()));
        let mut held = Vec::new();
        while listener.counts().exhausted() < 3 {
            if let Ok(connection) = timeout(Duration::from_millis(20), listener.accept()).await {
                held.push(connection);
            }
            assert!(held.len() <= 3, "eight descriptors hold two connections");
        }
        let before = listener.counts().accepted();
        // Everybody who is left is served or closed, as soon as there is room.
        held.clear();
        while listener.counts().accepted() + listener.counts().refused() < 40 {
            drop(timeout(DEADLINE, listener.accept()).await.expect("served"));
        }
        assert!(listener.counts().accepted() > before + 20, "those who waited in the queue were served");
        assert!(listener.counts().refused() < 10, "few were closed for want of descriptors");
    });
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

const DEADLINE: Duration = Duration::from_secs(20);
