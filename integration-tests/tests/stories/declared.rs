//! Entries from files: applying twice changes nothing, and a difference is found.

use integration_tests::Writ;

const FILE: &str = "\
kind: Entry
spiffe_id: /declared/one
parent_id: local
selectors: [unix:uid:4242]
---
kind: Entry
spiffe_id: /declared/two
parent_id: local
selectors: [unix:uid:4243, unix:gid:4243]
x509_svid_ttl: 30m
";

#[test]
fn a_file_is_applied_once_and_drift_is_told() {
    let writ = Writ::up();
    let file = writ.data().with_extension("yaml");
    std::fs::write(&file, FILE.replace("x509_svid_ttl: 30m\n", "")).expect("it is ours");
    let path = file.to_string_lossy().into_owned();

    assert_eq!(writ.run(&["diff", "-f", &path]).code, 1, "nothing of it is there yet");
    let _ = writ.run(&["apply", "-f", &path]).done();
    assert_eq!(writ.ask(&["entry", "count"])["count"], 2);
    let first = writ.run(&["entry", "show", "--output", "json"]).done().out;
    let _ = writ.run(&["apply", "-f", &path]).done();
    assert_eq!(writ.run(&["entry", "show", "--output", "json"]).done().out, first, "twice is as once");
    let _ = writ.run(&["diff", "-f", &path]).done();

    let changed = std::fs::read_to_string(&file).expect("it is ours").replace("4242", "4244");
    std::fs::write(&file, changed).expect("it is ours");
    let drift = writ.run(&["diff", "-f", &path]);
    assert_eq!(drift.code, 1);
    assert!(drift.out.contains("4244"), "it says what differs: {}", drift.out);
}

#[test]
fn an_entry_that_claims_what_is_reserved_or_foreign_is_refused_with_a_sentence() {
    let writ = Writ::up();
    for id in [
        "/spire/server",
        "/spire/agent/join_token/x",
        "/writ/any-node",
        "/a/task/b",
        "spiffe://other.example/a",
        "/",
        "no-slash",
        "/a//b",
        "/%41",
    ] {
        let answer = writ.run(&[
            "entry",
            "create",
            "--spiffe-id",
            id,
            "--parent",
            "local",
            "--selector",
            "unix:uid:1",
        ]);
        assert!(matches!(answer.code, 1 | 2), "{id} was accepted: {}", answer.out);
        assert!(!answer.err.trim().is_empty(), "{id}: a refusal says why");
    }
    assert_eq!(writ.ask(&["entry", "count"])["count"], 0);
}

#[test]
fn the_same_entry_twice_is_told() {
    let writ = Writ::up();
    let create = ["entry", "create", "--spiffe-id", "/twin", "--parent", "local", "--selector", "unix:uid:1"];
    let _ = writ.run(&create).done();
    let refusal = writ.run(&create).refused();
    assert!(refusal.contains("/twin") || refusal.contains("exists"), "{refusal}");
}
