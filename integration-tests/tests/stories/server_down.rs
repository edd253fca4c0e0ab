//! The agent goes on without its server, and says so.

use std::path::Path;
use std::time::Duration;

use integration_tests::daemon::{Agent, Server};
use integration_tests::workload::{Workload, ids};
use integration_tests::{Folder, Writ, eventually, needs};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{SOON, own_uid};

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_serves_what_is_valid_while_the_server_is_down() {
    let writ = Writ::up();
    writ.entry("/steady", &[&own_uid()]);
    let mut stream = Workload::connect(&writ.workload_socket()).await.watch();
    stream.until("the identity", SOON, |svids| ids(svids) == [writ.id("/steady")]).await;

    writ.signal("server", Signal::SIGSTOP);
    let svids = Workload::connect(&writ.workload_socket()).await.fetch().await;
    writ.signal("server", Signal::SIGCONT);
    assert_eq!(ids(&svids.expect("what is valid is served")), [writ.id("/steady")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_nine_of_both_the_identity_is_there_again() {
    let writ = Writ::up();
    writ.entry("/steady", &[&own_uid()]);
    for role in ["server", "agent"] {
        let victim = writ.kill(role);
        eventually("another process in its place", SOON, || (writ.role(role) != victim).then_some(()));
        let served = async {
            loop {
                let socket = writ.workload_socket();
                if tokio::net::UnixStream::connect(&socket).await.is_ok()
                    && Workload::connect(&socket).await.fetch().await.is_ok()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), served)
            .await
            .unwrap_or_else(|_| panic!("after {role}: {}", writ.log()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_tmpfs_an_agent_serves_again_after_kill_nine_without_its_server() {
    let memory = Path::new("/dev/shm");
    if !needs::memory_folder(memory) {
        return;
    }
    let mut server = Server::start("");
    let mut agent = Agent::join(&server, "second", Folder::within(memory));
    let entry = ["entry", "create", "--spiffe-id", "/second", "--parent", "second", "--selector", &own_uid()];
    let _ = server.run(&entry).done();
    wait_for_identity(&agent).await;

    server.signal(Signal::SIGSTOP);
    agent.kill_and_start();
    wait_for_identity(&agent).await;
    server.signal(Signal::SIGCONT);
}

async fn wait_for_identity(agent: &Agent) {
    let socket = &agent.workload_socket();
    let served = async {
        loop {
            if tokio::net::UnixStream::connect(socket).await.is_ok()
                && Workload::connect(socket).await.fetch().await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), served)
        .await
        .unwrap_or_else(|_| panic!("no identity at {}\n{}", socket.display(), agent.log()));
}

#[test]
fn status_says_that_the_server_is_gone_and_that_it_is_back() {
    let writ = Writ::up();
    let connected = || -> Option<bool> {
        let status: Value = writ.run(&["status", "--output", "json"]).json();
        status["agent"]["connected"].as_bool()
    };
    eventually("status says connected", SOON, || (connected() == Some(true)).then_some(()));
    let victim = writ.kill("server");
    eventually("the server is started again", SOON, || (writ.role("server") != victim).then_some(()));
    eventually("status says connected again", Duration::from_secs(20), || {
        (connected() == Some(true)).then_some(())
    });
}
