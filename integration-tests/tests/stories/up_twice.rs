//! `writ up` on a directory that has been up before continues where it was.

use integration_tests::Writ;
use integration_tests::workload::{Workload, ids};

use crate::own_uid;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_on_the_same_directory_keeps_every_identity() {
    let writ = Writ::up();
    writ.entry("/kept", &[&own_uid()]);
    let facts = |writ: &Writ| {
        ["entry show", "node list", "bundle show"].map(|command| {
            let mut arguments: Vec<_> = command.split(' ').collect();
            arguments.extend(["--output", "json"]);
            writ.run(&arguments).done().out
        })
    };
    let (before, ready) = (facts(&writ), writ.ready.clone());

    let writ = writ.again();

    assert_eq!(writ.ready.server_pin, ready.server_pin, "the pin is what other nodes know it by");
    assert_eq!(writ.ready.server_address, ready.server_address, "the free port is kept");
    assert_eq!(writ.ready.workload_api, ready.workload_api);
    let after = facts(&writ);
    assert_eq!(after[0], before[0], "the entries are the same");
    assert_eq!(after[2], before[2], "the trust bundle is the same");
    assert!(after[1].contains(&writ.node_id()), "the node is the same: {}", after[1]);
    let svids = Workload::connect(&writ.workload_socket()).await.fetch().await.expect("it is registered");
    assert_eq!(ids(&svids), [writ.id("/kept")]);
}

#[test]
fn a_data_directory_whose_sockets_would_have_too_long_paths_is_refused_with_a_sentence() {
    let folder = integration_tests::Folder::new();
    let data = folder.join(&"d".repeat(100));
    let mut command = integration_tests::writ_command();
    let refusal = integration_tests::Answer::of(command.arg("up").arg("--data").arg(&data)).refused();
    assert!(refusal.contains("107"), "the sentence names the limit: {refusal}");
}

#[test]
fn a_second_writ_up_on_a_directory_that_is_in_use_is_refused_and_harms_nothing() {
    let writ = Writ::up();
    let refusal = writ.run(&["up", "--data", &writ.data().to_string_lossy()]).refused();
    assert!(!refusal.is_empty());
    let _ = writ.run(&["status"]).done();
}
