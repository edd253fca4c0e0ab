//! A process that has run out of file descriptors serves again as soon as there are some.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;

use integration_tests::admin::Admin;
use integration_tests::workload::Workload;
use integration_tests::{Answer, Writ, eventually, needs};

use crate::{SOON, own_uid};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_free_descriptors_survives_and_serves_again() {
    if !needs::program("prlimit", "util-linux") {
        return;
    }
    let writ = Writ::up();
    writ.entry("/steady", &[&own_uid()]);
    narrow(writ.ready.agent_pid);
    let socket = writ.workload_socket();
    let crowd: Vec<_> = (0..300).map_while(|_| UnixStream::connect(&socket).ok()).collect();
    assert!(crowd.len() > 50, "only {} connections were made", crowd.len());
    eventually("there is no descriptor left", SOON, || (free(writ.ready.agent_pid) < 3).then_some(()));
    drop(crowd);
    served(&writ).await;
    assert_eq!(writ.role("agent"), writ.ready.agent_pid, "it is still the same process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_free_descriptors_survives_and_serves_again() {
    if !needs::program("prlimit", "util-linux") {
        return;
    }
    let writ = Writ::up();
    narrow(writ.ready.server_pid);
    let address = &writ.ready.server_address;
    let crowd: Vec<_> = (0..300).map_while(|_| TcpStream::connect(address).ok()).collect();
    eventually("there is no descriptor left", SOON, || (free(writ.ready.server_pid) < 3).then_some(()));
    drop(crowd);
    writ.entry("/steady", &[&own_uid()]);
    served(&writ).await;
    Admin::at(&writ.server_socket()).list().await.expect("the administrator is served");
    assert_eq!(writ.role("server"), writ.ready.server_pid, "it is still the same process");
}

/// Leaves a process room for about sixty more descriptors; the hard limit stays.
fn narrow(pid: u32) {
    let soft = format!("--nofile={}:", used(pid) + 60);
    let _ = Answer::of(Command::new("prlimit").args(["--pid", &pid.to_string(), &soft])).done();
}

fn used(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn free(pid: u32) -> usize {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("every process has one");
    let soft: usize = line.split_whitespace().nth(3).and_then(|word| word.parse().ok()).expect("a number");
    soft.saturating_sub(used(pid))
}

async fn served(writ: &Writ) {
    let ask = async {
        while Workload::connect(&writ.workload_socket()).await.fetch().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, ask).await.expect("it serves again");
}
