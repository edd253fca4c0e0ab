//! The programs of `examples/`, run as their readers would run them.

use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::{Folder, Running, Writ, example, needs};

use crate::{SOON, own_uid};

#[test]
fn the_rust_pair_does_mutual_tls() {
    greet(&example("mtls-server"), &example("mtls-client"));
}

#[test]
fn the_go_pair_does_mutual_tls() {
    if let (Some(server), Some(client)) =
        (needs::go_client("mtls-go/server"), needs::go_client("mtls-go/client"))
    {
        greet(&server, &client);
    }
}

#[test]
fn the_rust_client_and_the_go_server_understand_each_other() {
    if let Some(server) = needs::go_client("mtls-go/server") {
        greet(&server, &example("mtls-client"));
    }
}

/// Two programs of one user, each with an entry of its own by its path; a third has none.
fn greet(server: &Path, client: &Path) {
    let writ = Writ::up();
    let folder = Folder::new();
    let (server, client) = (folder.copy(server, "server"), folder.copy(client, "client"));
    let stranger = folder.copy(&client, "stranger");
    for (path, program) in [("/server", &server), ("/client", &client)] {
        writ.entry(path, &[&own_uid(), &format!("unix:path:{}", program.display())]);
    }
    let start = |program: &PathBuf, arguments: &[&str], name: &str| {
        let socket = format!("unix://{}", writ.workload_socket().display());
        let mut command = Command::new(program);
        Running::start(command.args(arguments).env("SPIFFE_ENDPOINT_SOCKET", socket), name, folder.path())
    };

    let listening = start(&server, &["127.0.0.1:0", &writ.id("/client")], "server");
    let line = listening.line(SOON);
    assert!(line.starts_with(&writ.id("/server")), "{line}");
    let address = line.rsplit(' ').next().expect("it says where").to_owned();

    let mut greeting = start(&client, &[&address, &writ.id("/server")], "client");
    let answer = greeting.line(SOON);
    assert!(answer.contains("hello") && answer.contains(&writ.id("/client")), "{answer}");
    assert!(greeting.ended(SOON).success());
    let heard = listening.line(SOON);
    assert!(heard.contains(&writ.id("/client")), "{heard}");

    let mut other = start(&client, &[&address, &writ.id("/somebody-else")], "client-2");
    assert!(!other.ended(SOON).success(), "a client refuses a server that it did not want");
    let strange = start(&stranger, &[&address, &writ.id("/server")], "stranger");
    assert!(listening_is_silent(&listening), "a process without identity reached the server");
    drop(strange);
}

fn listening_is_silent(server: &Running) -> bool {
    !server.log().contains("/stranger")
}
