//! A second machine joins with the line that the first one printed. The machines are network
//! namespaces of this one.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use integration_tests::workload::{Workload, ids};
use integration_tests::{Answer, Folder, Running, Writ, eventually, needs};

use crate::{SOON, own_uid};

/// Two namespaces with a cable between them, removed when dropped.
pub(crate) struct Cable {
    pub(crate) names: [String; 2],
}

impl Cable {
    pub(crate) const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

    pub(crate) fn lay() -> Self {
        static LAID: AtomicU32 = AtomicU32::new(0);
        let number = LAID.fetch_add(1, Ordering::Relaxed);
        let names = ["a", "b"].map(|end| format!("writ-{end}-{}-{number}", std::process::id()));
        for name in &names {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        let cable = Self { names };
        let [a, b] = &cable.names;
        ip(&["link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b]);
        for (name, address) in cable.names.iter().zip(Self::ADDRESSES) {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "cable"]);
            ip(&["-n", name, "link", "set", "cable", "up"]);
        }
        cable
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let _ = Answer::of(Command::new("ip").args(arguments)).done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_joins_with_the_printed_line_and_serves_its_own_workloads() {
    if !needs::root() || !needs::program("ip", "iproute2") {
        return;
    }
    let cable = Cable::lay();
    let [here, there] = &cable.names;
    let writ = Writ::up_in_namespace(here, &["--listen", &format!("{}:8081", Cable::ADDRESSES[0])]);
    let printed = writ.run(&["token", "create", "--node", "second"]).done();
    let line = printed.out.lines().find(|line| line.contains("writ agent run")).expect("it prints the line");
    let words: Vec<_> = line.split_whitespace().skip_while(|word| *word != "writ").skip(1).collect();
    assert!(!printed.err.contains("only this machine"), "it listens on more than loopback: {}", printed.err);

    let folder = Folder::new();
    let data = folder.join("d");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", there]).arg(integration_tests::writ_binary()).args(words);
    let agent = Running::start(command.env("WRIT_DATA", &data), "agent", folder.path());
    let entry = ["entry", "create", "--spiffe-id", "/second", "--parent", "second", "--selector", &own_uid()];
    let _ = writ.run(&entry).done();
    let socket = data.join("public/workload.sock");
    eventually(&format!("the second node listens\n{}", agent.log()), SOON, || socket.exists().then_some(()));
    let workload = Workload::connect(&socket).await;
    let svids = match workload.fetch().await {
        Ok(svids) => svids,
        Err(_) => workload.fetch().await.expect("the second time it waits until it is there"),
    };
    assert_eq!(ids(&svids), [writ.id("/second")]);
    let nodes = writ.run(&["node", "list"]).done().out;
    assert!(nodes.contains("second"), "{nodes}");
    let refused = writ.run(&["fetch", "x509"]);
    assert!(!refused.out.contains("/second"), "the identity belongs to the other node: {}", refused.out);
}

#[test]
fn a_token_warns_where_the_server_listens_on_loopback_only() {
    let writ = Writ::up();
    let printed = writ.run(&["token", "create", "--node", "far"]).done();
    let said = format!("{}{}", printed.out, printed.err);
    assert!(said.contains("only this machine") && said.contains("--listen"), "{said}");
}
