//! go-spiffe, as its users have it.

use std::process::Command;
use std::time::Duration;

use integration_tests::{Running, Writ, needs};
use serde_json::Value;

use crate::{SOON, own_uid};

#[test]
fn go_spiffe_receives_an_svid_sees_rotation_and_re_creation_and_loses_a_deleted_one() {
    let Some(program) = needs::go_client("go/watch") else { return };
    let writ = Writ::up();
    // Half of six seconds is when it is renewed.
    let entry = writ.entry_with("/go", &[&own_uid()], &["--ttl", "6s"]);
    let socket = format!("unix://{}", writ.workload_socket().display());
    let mut command = Command::new(program);
    let watch = Running::start(
        command.env("SPIFFE_ENDPOINT_SOCKET", socket),
        "watch",
        writ.data().parent().unwrap_or(writ.data()),
    );
    let has = |id: String| move |line: &Value| line["ids"][0] == id.as_str();

    let first = watch.json("the first SVID", SOON, has(writ.id("/go")));
    assert_eq!(first["bundles"][0], "writ.local");
    let next = watch.json("its rotation", Duration::from_secs(8), has(writ.id("/go")));
    assert_ne!(next["serials"], first["serials"], "a rotation brings another certificate");

    writ.delete(&entry);
    let refused = watch.json("the refusal", SOON, |line| line["event"] == "error");
    assert_eq!(refused["code"], "PermissionDenied", "{refused}");

    writ.entry("/go-again", &[&own_uid()]);
    watch.json("the re-created identity", SOON, has(writ.id("/go-again")));
}
