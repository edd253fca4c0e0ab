//! The process that connected must be the one that is served.

use std::fs;
use std::process::Command;

use integration_tests::{Folder, Running, Writ, eventually, test_workload};
use nix::sys::signal::Signal;

use crate::{SOON, own_uid};

#[test]
fn a_connection_whose_process_became_another_program_gets_nothing() {
    let writ = Writ::up();
    writ.entry("/honest", &[&own_uid()]);
    let folder = Folder::new();
    let (borrower, lender) =
        (folder.copy(&test_workload(), "borrower"), folder.copy(&test_workload(), "lender"));
    let held = || fs::read_dir(format!("/proc/{}/fd", writ.ready.agent_pid)).map_or(0, Iterator::count);
    let before = held();
    let mut honest =
        start(&folder, Command::new(&borrower).arg("fetch").arg(writ.workload_socket()), "honest");
    honest.json("an identity for who asks itself", SOON, |line| line["ids"][0] == writ.id("/honest"));
    honest.ended(SOON);
    eventually("the agent lets it go", SOON, || (held() <= before).then_some(()));

    let mut lent =
        start(&folder, Command::new(&lender).arg("lend").arg(writ.workload_socket()).arg(&borrower), "lent");
    lent.json("a connection", SOON, |line| line["connected"] == true);
    // What happens before the agent has accepted it cannot tell from honest use: the lender must have been seen.
    eventually("the agent pins the lender", SOON, || (held() > before + 1).then_some(()));
    lent.close_input();
    let answer = lent.json("a refusal", SOON, |line| line["code"].is_string() || line["ids"].is_array());
    assert!(answer["ids"].is_null(), "a lent connection was served: {answer}");
}

#[test]
fn an_open_stream_whose_process_becomes_another_program_ends() {
    // The program asks, is served, and then its image changes under the open connection.
    let writ = Writ::up();
    writ.entry("/honest", &[&own_uid()]);
    let folder = Folder::new();
    let program = folder.copy(&test_workload(), "program");
    let mut command = Command::new(&program);
    let turned =
        start(&folder, command.arg("turn").arg(writ.workload_socket()).arg(test_workload()), "turned");
    turned.json("an identity", SOON, |line| line["ids"][0] == writ.id("/honest"));
    turned.json("the other program", SOON, |line| line["turned"] == true);
    writ.entry("/later", &[&own_uid()]);
    let end = turned.json("the end of the connection", SOON, |line| line["closed"] == true);
    assert_eq!(end["svid"], false, "the other program was served: {end}");
}

#[test]
fn a_connection_whose_process_was_reaped_before_it_was_accepted_gets_nothing() {
    let writ = Writ::up();
    writ.entry("/honest", &[&own_uid()]);
    let folder = Folder::new();
    writ.signal("agent", Signal::SIGSTOP);
    let mut left =
        start(&folder, Command::new(test_workload()).arg("leave").arg(writ.workload_socket()), "left");
    left.ended(SOON);
    writ.signal("agent", Signal::SIGCONT);
    let answer = left.json("a refusal", SOON, |line| line["code"].is_string() || line["ids"].is_array());
    assert!(answer["ids"].is_null(), "a dead process was served: {answer}");
}

#[test]
fn a_connection_whose_process_dies_after_it_was_accepted_gets_nothing() {
    let writ = Writ::up();
    writ.entry("/honest", &[&own_uid()]);
    let folder = Folder::new();
    let mut left =
        start(&folder, Command::new(test_workload()).arg("leave").arg(writ.workload_socket()), "left");
    left.ended(SOON);
    let answer = left.json("an answer", SOON, |line| line["code"].is_string() || line["ids"].is_array());
    // The child may have been quicker than the death of its parent; then the stream must end.
    if answer["ids"].is_array() {
        left.json("the end of the stream", SOON, |line| line["code"].is_string());
    }
}

fn start(folder: &Folder, command: &mut Command, name: &str) -> Running {
    Running::start(command, name, folder.path())
}
