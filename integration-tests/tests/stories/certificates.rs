//! Who a server takes for an agent.

use std::time::Duration;

use integration_tests::daemon::Server;
use integration_tests::tls::{self, Identity};
use integration_tests::{Folder, Running, Writ, eventually, node, writ_command};
use proto::writ::node::v1::FollowRequest;
use proto::writ::node::v1::node_client::NodeClient;
use tonic::{Code, Status};

use crate::SOON;

/// Asks for the node's view, which only an agent may.
async fn follow(address: &str, identity: Option<&Identity>) -> Result<u64, Status> {
    let channel = tls::connect(address, identity).await.map_err(Status::unauthenticated)?;
    let request = FollowRequest::default();
    let mut stream = NodeClient::new(channel).follow(request).await?.into_inner();
    let delta = stream.message().await?.ok_or_else(|| Status::unknown("no delta"))?;
    Ok(delta.to)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_living_certificate_of_this_trust_domain_makes_an_agent() {
    let writ = Writ::up();
    let address = &writ.ready.server_address;
    let token = writ.ask(&["token", "create", "--node", "real"]);
    let real = node::join(address, token["token"].as_str().expect("a token")).await.expect("it joins");
    follow(address, Some(&real)).await.expect("an agent may follow");

    for (who, identity) in [
        ("nobody", None),
        (
            "its namesake under a foreign root",
            Some(Identity::foreign(&writ.id("/spire/agent/join_token/real"))),
        ),
        (
            "a foreign trust domain",
            Some(Identity::foreign("spiffe://other.example/spire/agent/join_token/real")),
        ),
        ("the server's own name under a foreign root", Some(Identity::foreign(&writ.id("/spire/server")))),
    ] {
        let status = follow(address, identity.as_ref()).await.expect_err(who);
        assert_ne!(status.code(), Code::Ok, "{who}");
        assert!(!status.message().contains("real"), "strangers learn nothing, but {who} heard: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_not_an_agent_though_its_certificate_is_of_the_same_root() {
    let writ = Writ::up();
    writ.entry("/workload", &[&crate::own_uid()]);
    let folder = Folder::new();
    let wrote = writ.run(&["fetch", "x509", "--write", &folder.path().to_string_lossy()]).done();
    let identity = Identity::read(folder.path()).unwrap_or_else(|| panic!("no key and chain: {}", wrote.out));
    let status = follow(&writ.ready.server_address, Some(&identity)).await.expect_err("it is not an agent");
    assert!(matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_certificate_has_ended_is_refused() {
    let server = Server::start("agent_ttl = \"3s\"\n");
    let address = server.address();
    let brief = node::join(address, &server.token("brief")).await.expect("it joins");
    follow(address, Some(&brief)).await.expect("it is valid at first");
    let ended = async {
        while follow(address, Some(&brief)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(8), ended).await.expect("it ends after three seconds");
}

#[test]
fn an_agent_with_a_wrong_pin_does_not_join_and_says_why() {
    let writ = Writ::up();
    let folder = Folder::new();
    let token = writ.ask(&["token", "create", "--node", "careful"]);
    let mut command = writ_command();
    command.args(["agent", "run", "--server", &writ.ready.server_address]);
    command.args(["--token", token["token"].as_str().expect("a token"), "--data"]).arg(folder.join("d"));
    command.args(["--pin", &format!("sha256:{}", "0".repeat(64))]);
    let agent = Running::start(&mut command, "agent", folder.path());
    eventually("it says that the pin differs", SOON, || agent.log().contains("pin").then_some(()));
    let nodes = writ.run(&["node", "list", "--output", "json"]).done().out;
    assert!(!nodes.contains("careful"), "it has not joined: {nodes}");
}

#[test]
fn an_agent_that_expects_another_trust_domain_does_not_join() {
    let writ = Writ::up();
    let folder = Folder::new();
    let token = writ.ask(&["token", "create", "--node", "elsewhere"]);
    let config = folder.write(
        "agent.toml",
        format!(
            "server = {:?}\ntrust_domain = \"other.example\"\npin = {:?}\ntoken = {}\nstate_dir = {:?}\nprivate_dir = {:?}\npublic_dir = {:?}\n",
            writ.ready.server_address,
            writ.ready.server_pin,
            token["token"],
            folder.join("state"),
            folder.join("private"),
            folder.join("public"),
        ),
    );
    let mut command = writ_command();
    let agent =
        Running::start(command.args(["agent", "run", "--config"]).arg(config), "agent", folder.path());
    eventually("it says which trust domain it expected", SOON, || {
        agent.log().contains("other.example").then_some(())
    });
    let nodes = writ.run(&["node", "list", "--output", "json"]).done().out;
    assert!(!nodes.contains("elsewhere"), "it has not joined: {nodes}");
}
