//! The published Python and Java libraries, as their users have them.

use std::cell::Cell;
use std::process::Command;
use std::time::Duration;

use integration_tests::{Running, Writ, needs};
use serde_json::{Value, json};

use crate::own_uid;

/// A virtual machine that starts beside a loaded build takes a while.
const STARTED: Duration = Duration::from_secs(60);
const TURNED: Duration = Duration::from_secs(30);

#[test]
fn py_spiffe_receives_svids_bundles_and_tokens_and_sees_the_authorities_turn() {
    let Some((program, arguments)) = needs::python_client() else { return };
    follows(Command::new(program).args(arguments));
}

#[test]
fn java_spiffe_receives_svids_bundles_and_tokens_and_sees_the_authorities_turn() {
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
    assert_eq!(token["id"], svids["ids"][0]);
    for first in [&svids, &token] {
        assert_eq!(first["signers"], first["authorities"], "there is one authority: {first}");
    }

    // The next authorities are in the bundles before anything is signed by them.
    let next = ["x509", "jwt"].map(|used_for| {
        let prepared = writ.ask(&["authority", "prepare", used_for]);
        prepared["prepared"].as_str().expect("it names the new one").to_owned()
    });
    both("SVID and token are renewed beside the next authorities", &client, |of, line| {
        let (before, seen) = ([&svids, &token][of], &line["authorities"]);
        line[DIFFERS[of]] != before[DIFFERS[of]]
            && line["signers"] == before["signers"]
            && has(seen, &next[of])
            && seen.as_array().map(Vec::len) == Some(2)
    });
    for authority in &next {
        let _ = writ.run(&["authority", "activate", authority]).done();
    }
    both("SVID and token are under the new authorities, and valid", &client, |of, line| {
        line["signers"] == json!([next[of]]) && line["ids"].get(0).unwrap_or(&line["id"]) == &token["id"]
    });
}

/// What is another one in an SVID, and in a token, that was renewed.
const DIFFERS: [&str; 2] = ["serials", "token"];

/// Reads until `wanted` has held of a line about SVIDs (0) and of one about a token (1). A client says neither
/// of what it cannot verify.
fn both(what: &str, client: &Running, wanted: impl Fn(usize, &Value) -> bool) {
    let seen = [Cell::new(false), Cell::new(false)];
    client.json(what, TURNED, |line| {
        let of = ["svids", "token"].iter().position(|event| line["event"] == *event);
        if let Some(of) = of.filter(|of| wanted(*of, line)) {
            seen[of].set(true);
        }
        seen.iter().all(Cell::get)
    });
}

fn has(list: &Value, text: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|one| one == text))
}
