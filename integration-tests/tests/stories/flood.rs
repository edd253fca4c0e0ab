//! One caller's flood never delays another's. How little it does, `cargo xtask bench flood` measures.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use integration_tests::workload::Workload;
use integration_tests::{Folder, Running, Writ, eventually, needs, test_workload};
use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::{SOON, own_uid};

/// The requests of the flood.
const FLOOD: usize = 1000;
/// How many of them may be answered before one of somebody else. Turns are fair if it is two or three;
/// the rest is for what a busy machine takes until the answer is seen. First come, first served, it is
/// all of them.
const AHEAD: usize = FLOOD / 4;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_after_a_thousand_requests_of_another_process_is_answered_before_most_of_them() {
    if !needs::root() {
        return;
    }
    let writ = Writ::up();
    writ.entry("/calm", &[&own_uid()]);
    writ.entry("/flood", &["unix:uid:65534"]);
    let folder = Folder::new();
    let program = folder.copy(&test_workload(), "flood");
    let mut command = Command::new(program);
    command.arg("open").arg(writ.workload_socket()).arg(FLOOD.to_string()).uid(65534).gid(65534);
    let mut flood = Running::start(&mut command, "flood", folder.path());
    count(&mut flood, "again");
    eventually("a thousand open streams", SOON, || (count(&mut flood, "count") == FLOOD).then_some(()));

    // While they are open, everybody else is served.
    for _ in 0..100 {
        let another = Workload::connect(&writ.workload_socket()).await;
        timeout(SOON, another.fetch()).await.expect("an answer in time").expect("it is registered");
    }

    // The agent finds a thousand requests and behind them one of another process, and is stopped when that
    // is answered. On a busy machine the answer may be seen late, but not each time.
    let mut command = Command::new(test_workload());
    command.arg("open").arg(writ.workload_socket()).arg("1");
    let mut calm = Running::start(&mut command, "calm", folder.path());
    let mut rounds = Vec::new();
    while rounds.len() < 10 && rounds.iter().all(|ahead| *ahead > AHEAD) {
        writ.signal("agent", Signal::SIGSTOP);
        count(&mut flood, "again");
        count(&mut calm, "again");
        writ.signal("agent", Signal::SIGCONT);
        eventually("an answer", SOON, || (count(&mut calm, "count") == 1).then_some(()));
        writ.signal("agent", Signal::SIGSTOP);
        rounds.push(count(&mut flood, "count"));
        writ.signal("agent", Signal::SIGCONT);
    }
    assert!(rounds.iter().any(|ahead| *ahead <= AHEAD), "of {FLOOD} were answered before it: {rounds:?}");
}

/// Says a word to one that holds streams open; how many of them are answered.
fn count(holder: &mut Running, word: &str) -> usize {
    holder.say(word);
    let line = holder.json("its count", SOON, |line| line[word].is_number());
    line[word].as_u64().and_then(|count| count.try_into().ok()).expect("it counts streams")
}
