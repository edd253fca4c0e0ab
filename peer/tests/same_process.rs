//! Whoever connected is who is answered: what a process does between connecting and being answered.

mod harness;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use harness::{Puppet, copy_of_puppet, listen, open_directory, puppet};
use peer::{Changed, Image, Peer, PinError};
use tokio::time::timeout;

#[tokio::test]
async fn a_caller_is_held_with_its_image_and_its_ids() {
    let (_directory, listener) = listen();
    let mut caller = Puppet::start();
    caller.connect(&listener);
    let (_stream, peer) = listener.accept().await;
    assert_eq!(peer.pid(), caller.pid());
    assert!(peer.image().is(&Image::at_path(puppet()).expect("it exists")));
    assert_eq!(peer.exe_link().expect("readable"), puppet());
    let status = peer.status().expect("readable");
    assert_eq!(*peer.credentials(), status.credentials, "the pidfd and /proc agree");
    assert_eq!(status.tracer, 0);
    assert!(peer.start_time().expect("readable") > 0);
    peer.check().expect("nothing changed");
    assert_eq!(listener.counts().accepted(), 1);
}

#[tokio::test]
async fn the_cgroups_of_a_caller_are_those_that_it_is_in_now_and_of_the_dead_there_are_none() {
    let (_directory, listener) = listen();
    let mut caller = Puppet::start();
    caller.connect(&listener);
    let (_stream, peer) = listener.accept().await;
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", caller.pid())).expect("readable");
    assert_eq!(peer.cgroup().expect("readable"), text);
    drop(caller);
    peer.exited().await;
    assert!(peer.cgroup().is_err());
}

#[tokio::test]
async fn running_another_program_after_connecting_is_noticed() {
    let (directory, listener) = listen();
    let other = copy_of_puppet(&directory.path().join("other"));
    let mut caller = Puppet::start();
    caller.connect(&listener);
    let (_stream, peer) = listener.accept().await;
    peer.check().expect("still itself");
    caller.exec(&other);
    assert!(matches!(peer.check(), Err(Changed::Image { pid, .. }) if pid == caller.pid()));
    assert!(peer.alive(), "it is alive all the same");
    caller.exec(puppet());
    peer.check().expect("it is that image again, whose facts were proved");
}

/// Deleting a program frees its inode number, and the next file may get it.
#[tokio::test]
async fn another_program_with_a_reused_inode_number_is_another_program() {
    let (directory, listener) = listen();
    let first = copy_of_puppet(&directory.path().join("first"));
    let mut caller = Puppet::run(&mut Command::new(&first));
    caller.connect(&listener);
    let (_stream, peer) = listener.accept().await;
    caller.exec(puppet());
    std::fs::remove_file(&first).expect("nobody runs it any more");
    for n in 0..100 {
        let heir = copy_of_puppet(&directory.path().join(format!("heir{n}")));
        let image = Image::at_path(&heir).expect("it exists");
        if (image.device, image.inode) == (peer.image().device, peer.image().inode) {
            caller.exec(&heir);
            assert!(matches!(peer.check(), Err(Changed::Image { .. })));
            return;
        }
    }
    // This file system does not give a number out again, so there is nothing to be had by it.
}

#[tokio::test]
async fn running_another_program_before_being_accepted_makes_it_that_program() {
    let (directory, listener) = listen();
    let other = copy_of_puppet(&directory.path().join("other"));
    let mut caller = Puppet::start();
    caller.connect(&listener);
    caller.exec(&other);
    let (_stream, peer) = listener.accept().await;
    assert!(peer.image().is(&Image::at_path(&other).expect("it exists")));
}

#[tokio::test]
async fn an_accomplice_that_keeps_the_connection_gets_nothing_once_the_caller_is_dead() {
    let (_directory, listener) = listen();
    let mut caller = Puppet::start();
    caller.connect(&listener);
    caller.order("lend");
    let (stream, peer) = listener.accept().await;
    peer.check().expect("still itself");
    let exit = peer.exited();
    caller.kill();
    timeout(DEADLINE, exit).await.expect("its end is told");
    assert!(matches!(peer.check(), Err(Changed::Exited { pid }) if pid == caller.pid()));
    assert!(peer.exe_link().is_err() && peer.status().is_err() && peer.open_exe().is_err());
    assert!(stream.try_write(b"x").is_ok(), "the connection itself is open in the accomplice");
}

#[tokio::test]
async fn everybody_who_waits_for_an_exit_is_told_also_afterwards() {
    let mut process = Puppet::start();
    let peer = Peer::open(process.pid()).expect("held");
    let waiting = futures::future::join_all((0..10).map(|_| peer.exited()));
    process.kill();
    timeout(DEADLINE, waiting).await.expect("all are told");
    timeout(DEADLINE, peer.exited()).await.expect("and later ones too");
    assert!(!peer.alive() && !peer.process().is_alive());
}

#[tokio::test]
async fn an_exit_that_does_not_come_is_waited_for() {
    let process = Puppet::start();
    let peer = Peer::open(process.pid()).expect("held");
    assert!(timeout(Duration::from_millis(50), peer.exited()).await.is_err());
    assert!(peer.alive() && peer.process().is_alive());
}

#[tokio::test]
async fn a_caller_that_is_dead_before_it_is_accepted_is_closed_and_the_next_one_served() {
    let (_directory, listener) = listen();
    let mut parent = Puppet::start();
    for _ in 0..20 {
        parent.order(&format!("connect-and-die {}", listener.path().display()));
    }
    parent.connect(&listener);
    let (_stream, peer) = timeout(DEADLINE, listener.accept()).await.expect("the living one is served");
    assert_eq!(peer.pid(), parent.pid());
    assert_eq!((listener.counts().refused(), listener.counts().accepted()), (20, 1));
}

#[tokio::test]
async fn a_process_without_its_first_thread_has_no_image_and_is_refused() {
    let (_directory, listener) = listen();
    let mut rest = Puppet::run(Command::new(puppet()).arg("without-leader"));
    let deadline = Instant::now() + DEADLINE;
    while !matches!(Peer::open(rest.pid()), Err(PinError::NoImage { .. })) {
        assert!(Instant::now() < deadline, "its first thread ends and the process does not");
    }
    rest.connect(&listener);
    let mut whole = Puppet::start();
    whole.connect(&listener);
    let (_stream, peer) = timeout(DEADLINE, listener.accept()).await.expect("the whole one is served");
    assert_eq!(peer.pid(), whole.pid());
    assert_eq!(listener.counts().refused(), 1);
}

#[tokio::test]
async fn an_administrator_can_name_a_process_by_its_pid() {
    let process = Puppet::start();
    let peer = Peer::open(process.pid()).expect("held");
    assert!(peer.image().is(&Image::at_path(puppet()).expect("it exists")));
    peer.check().expect("nothing changed");
    for nobody in [0, u32::MAX, 4_194_305] {
        assert!(matches!(Peer::open(nobody), Err(PinError::Gone)), "{nobody}");
    }
}

#[tokio::test]
async fn processes_are_told_apart_and_each_is_one() {
    let (one, other) = (Puppet::start(), Puppet::start());
    let again = Peer::open(one.pid()).expect("held").process();
    let (one, other) = (Peer::open(one.pid()).expect("held"), Peer::open(other.pid()).expect("held"));
    assert_eq!(one.process(), again);
    assert_ne!(one.process(), other.process());
}

#[tokio::test]
async fn a_file_replaced_under_a_running_process_leaves_it_the_same_process() {
    let directory = open_directory();
    let program = copy_of_puppet(&directory.path().join("program"));
    let process = Puppet::run(&mut Command::new(&program));
    let peer = Peer::open(process.pid()).expect("held");
    let fresh = copy_of_puppet(&directory.path().join("fresh"));
    std::fs::rename(fresh, &program).expect("an upgrade");
    peer.check().expect("it still runs what it ran");
    assert!(peer.exe_link().expect("readable").to_string_lossy().ends_with(" (deleted)"));
}

const DEADLINE: Duration = Duration::from_secs(20);
