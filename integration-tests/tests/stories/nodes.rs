//! A node that is not wanted any more.

use integration_tests::workload::Workload;
use integration_tests::{Folder, Running, Writ, eventually, writ_command};
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
