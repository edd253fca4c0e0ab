//! One caller's flood never delays another's.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use integration_tests::workload::Workload;
use integration_tests::{Folder, Running, Writ, needs, test_workload};

use crate::{SOON, own_uid};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_open_requests_of_one_process_do_not_double_the_time_of_others() {
    if !needs::root() {
        return;
    }
    let writ = Writ::up();
    writ.entry("/calm", &[&own_uid()]);
    writ.entry("/flood", &["unix:uid:65534"]);
    let folder = Folder::new();
    let program = folder.copy(&test_workload(), "flood");
    worst(&writ).await;
    let before = worst(&writ).await;

    let mut command = Command::new(program);
    command.arg("open").arg(writ.workload_socket()).arg("1000").uid(65534).gid(65534);
    let mut flood = Running::start(&mut command, "flood", folder.path());
    flood.json("a thousand requests", SOON, |line| line["open"] == 1000);
    let during = worst(&writ).await;
    flood.close_input();
    flood.json("its end", SOON, |line| line["ended"].is_number());
    assert!(during <= before * 2, "99 of 100 took up to {before:?} before and {during:?} during the flood");
}

/// The 99th percentile of a new connection and its first answer, the best of three looks.
async fn worst(writ: &Writ) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let mut took = Vec::new();
        for _ in 0..200 {
            let begun = Instant::now();
            Workload::connect(&writ.workload_socket()).await.fetch().await.expect("it is registered");
            took.push(begun.elapsed());
        }
        took.sort();
        best = best.min(took[197]);
    }
    best
}
