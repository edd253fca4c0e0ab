//! A node that is not wanted any more.

use integration_tests::workload::Workload;
use integration_tests::{Answer, Folder, Running, Writ, eventually, writ_command};
use tonic::Code;

use crate::{SOON, own_uid};

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_node_loses_its_identities_at_once_and_its_name_for_good() {
    let writ = Writ::up();
    let folder = Folder::new();
    let data = folder.join("d");
    let token = writ.ask(&["token", "create", "--node", "rogue"]);
    let mut command = writ_command();
    command.args(["agent", "run", "--server", &writ.ready.server_address, "--pin", &writ.ready.server_pin]);
    command.args(["--token", token["token"].as_str().expect("a token")]).env("WRIT_DATA", &data);
    let agent = Running::start(&mut command, "agent", folder.path());
    let entry = ["entry", "create", "--spiffe-id", "/rogue", "--parent", "rogue", "--selector", &own_uid()];
    let _ = writ.run(&entry).done();
    let socket = data.join("public/workload.sock");
    eventually(&format!("the node listens\n{}", agent.log()), SOON, || socket.exists().then_some(()));
    let workload = Workload::connect(&socket).await;
    let mut stream = workload.watch();
    if stream.next().await.is_err() {
        // Refused the first time, it waits the second time.
        stream = workload.watch();
        stream.until("the identity", SOON, |svids| !svids.is_empty()).await;
    }

    let _ = writ.run(&["node", "ban", "rogue"]).done();
    let end = stream.ended(SOON).await;
    assert!(matches!(end.code(), Code::PermissionDenied | Code::Unavailable), "{end}");
    let again = writ.run(&["token", "create", "--node", "rogue"]);
    assert_eq!(again.code, 1, "a banned node's name is refused: {}", again.out);
}

#[test]
fn where_its_own_node_is_banned_writ_up_says_how_to_lift_the_ban() {
    let writ = Writ::up();
    let _ = writ.run(&["node", "ban", "local"]).done();
    let said = || writ.log().contains("this node is banned").then_some(());
    eventually("the agent says that it is banned", SOON, said);
    let (folder, data) = writ.down();
    let refusal = Answer::of(writ_command().args(["up", "--data"]).arg(&data)).refused();
    assert!(refusal.contains("is banned"), "{refusal}");

    // It is told in two commands, and they work as they are.
    let words = |part: usize| {
        refusal
            .split('`')
            .nth(part)
            .unwrap_or_else(|| panic!("no command in: {refusal}"))
            .split_whitespace()
            .skip(1)
    };
    let mut alone = Running::start(writ_command().args(words(1)), "server", folder.path());
    alone.line(SOON * 3);
    let _ = Answer::of(writ_command().args(words(3))).done();
    alone.stop();
    let _ = Writ::up_at(folder, data, &[]);
}
