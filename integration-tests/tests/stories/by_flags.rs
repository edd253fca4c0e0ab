//! An agent from flags alone, as `token create` prints them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use integration_tests::{Answer, Folder, Running, Writ, eventually, writ_command};
use nix::sys::signal::Signal;

use crate::SOON;

/// The printed line, on a data directory of its own.
fn agent(writ: &Writ, node: &str, data: &Path) -> Command {
    let token = writ.ask(&["token", "create", "--node", node]);
    let line = token["command"].as_str().expect("the whole line").to_owned();
    let mut command = writ_command();
    command.args(line.split_whitespace().skip(1)).arg("--data").arg(data).args(["--output", "json"]);
    command
}

#[test]
fn its_state_is_closed_to_others_and_it_stays_with_its_trust_domain() {
    let writ = Writ::up();
    let folder = Folder::new();
    let data = folder.join("d");
    let mut first = Running::start(&mut agent(&writ, "second", &data), "agent", folder.path());
    first.json("that it serves", SOON * 3, |line| line["agent_pid"].is_number());
    let mode = fs::metadata(data.join("state")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "whoever makes it");
    first.stop();

    let elsewhere = Answer::of(agent(&writ, "third", &data).args(["--trust-domain", "other.example"]));
    let refusal = elsewhere.refused();
    assert!(refusal.contains("writ.local") && refusal.contains("other.example"), "{refusal}");
}

#[test]
fn ready_says_until_when_it_serves_without_its_server() {
    let writ = Writ::up();
    let folder = Folder::new();
    // Free a moment ago; nobody else asks for it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it listens").to_string();
    drop(listener);
    let mut command = agent(&writ, "second", &folder.join("d"));
    let running = Running::start(command.args(["--health-listen", &address]), "agent", folder.path());
    running.json("that it serves", SOON * 3, |line| line["agent_pid"].is_number());
    let entry = ["entry", "create", "--spiffe-id", "/held", "--parent", "second", "--selector", "unix:uid:1"];
    let _ = writ.run(&entry).done();
    let holds = || {
        let socket = folder.join("d/private/agent.sock");
        let status = Answer::of(writ_command().args(["status", "--output", "json", "--socket"]).arg(socket));
        (status.json()["agent"]["svids"] == 1).then_some(())
    };
    eventually("it holds an SVID", SOON, holds);
    assert!(ready(&address).contains("\"ready\":true"));
    writ.signal("server", Signal::SIGKILL);
    eventually("it says what it serves", SOON, || {
        let answer = ready(&address);
        (answer.contains("503") && answer.contains("serving what is valid, all of it until 20")).then_some(())
    });
}

#[test]
fn a_second_token_of_a_name_and_one_for_a_node_that_is_there_are_remarked() {
    let writ = Writ::up();
    let warnings = |node: &str| writ.ask(&["token", "create", "--node", node])["warnings"].to_string();
    assert!(!warnings("twice").contains("void"));
    assert!(warnings("twice").contains("it is void now, and only this one counts"));
    assert!(warnings("local").contains("node local has joined already"));
}

fn ready(address: &str) -> String {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer)).expect("it answers");
    answer
}
