//! The published Python and Java libraries, as their users have them.

use std::cell::Cell;
use std::process::Command;
use std::time::Duration;

use integration_tests::{Running, Writ, needs};
use serde_json::Value;

use crate::own_uid;

/// A virtual machine that starts beside a loaded build takes a while.
const STARTED: Duration = Duration::from_secs(60);
const TURNED: Duration = Duration::from_secs(30);

#[test]
fn py_spiffe_receives_svids_bundles_and_tokens_and_sees_them_turn() {
    let Some((program, arguments)) = needs::python_client() else { return };
    follows(Command::new(program).args(arguments));
}

#[test]
fn java_spiffe_receives_svids_bundles_and_tokens_and_sees_them_turn() {
    let Some((program, arguments)) = needs::java_client() else { return };
    follows(Command::new(program).args(arguments));
}

fn follows(command: &mut Command) {
    let writ = Writ::up();
    // Half of twenty seconds is when they are renewed.
    writ.entry_with("/other", &[&own_uid()], &["--ttl", "20s", "--jwt-ttl", "20s"]);
    let socket = format!("unix://{}", writ.workload_socket().display());
    let folder = writ.data().parent().unwrap_or(writ.data());
    let client = Running::start(command.env("SPIFFE_ENDPOINT_SOCKET", socket), "client", folder);
    let (id, trust_domain) = (writ.id("/other"), writ.ready.trust_domain.clone());
    let is = |event: &'static str| move |line: &Value| line["event"] == event;

    let svids = client.json("the first SVID", STARTED, is("svids"));
    assert_eq!((&svids["ids"][0], &svids["bundles"][0]), (&id.into(), &trust_domain.into()));
    let token = client.json("the first token, judged by its bundle and by the agent", STARTED, is("token"));
    assert_eq!((&token["id"], &token["keys"]), (&svids["ids"][0], &1.into()));

    let turned = [Cell::new(false), Cell::new(false)];
    client.json("another SVID and another token", TURNED, |line| {
        match line["event"].as_str() {
            Some("svids") if line["serials"] != svids["serials"] => turned[0].set(true),
            Some("token") if line["token"] != token["token"] => turned[1].set(true),
            _ => {}
        }
        turned.iter().all(Cell::get)
    });
}
