//! The audit log, as an administrator and as somebody who trusts nobody here sees it.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use integration_tests::{Answer, Writ, eventually, needs};
use serde_json::Value;

use crate::{SOON, own_uid};

/// Every entry, as records.
fn entries(writ: &Writ) -> Vec<Value> {
    let tail = writ.run(&["audit", "tail", "-n", "100000", "--output", "json"]).done();
    tail.out.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// Waits until the server's own commit of this kind is merged, and gives how many there are of it.
fn merged(writ: &Writ, kind: &str) -> usize {
    eventually("the commit is merged", SOON, || {
        let all = entries(writ);
        let found = all.iter().filter(|entry| entry["record"]["kind"] == kind).count();
        (found > 0).then_some(found)
    })
}

fn key(writ: &Writ) -> String {
    writ.ask(&["audit", "key"])["key"].as_str().expect("a key is a text").to_owned()
}

fn export(writ: &Writ, to: &Path) {
    let _ = writ.run(&["audit", "export", &to.display().to_string()]).done();
}

#[test]
fn what_an_export_holds_is_verified_by_go_programs_that_know_nothing_of_writ() {
    let Some(program) = needs::go_client("go/auditlog") else { return };
    let writ = Writ::up();
    for n in 0..20 {
        let id = format!("/n/{n}");
        writ.ask(&[
            "entry",
            "create",
            "--spiffe-id",
            &id,
            "--parent",
            "local",
            "--selector",
            "unix:uid:4242",
        ]);
    }
    merged(&writ, "entry.create");
    let folder = writ.data().parent().expect("data lies in a folder").to_owned();
    let (first, second) = (folder.join("first"), folder.join("second"));
    export(&writ, &first);
    // Reading is recorded, and soon there are more entries than a tile has.
    for _ in 0..260 {
        writ.ask(&["audit", "tail", "-n", "1"]);
    }
    export(&writ, &second);
    let key = key(&writ);
    let checked = |arguments: &[&Path]| {
        let mut command = Command::new(&program);
        command.arg(arguments[0]).arg(&key).args(&arguments[1..]);
        Answer::of(&mut command)
    };
    let answer = checked(&[&second, &first.join("checkpoint")]).done().json();
    let size = answer["entries"].as_u64().expect("a number");
    assert!(size > 280 && answer["included"].as_u64() > Some(100), "{answer}");
    assert_eq!(answer["consistent"], true);
    assert!(second.join("tile/0/000").exists() && second.join("tile/entries/000").exists());

    let bundle = second.join("tile/entries/000");
    let mut bytes = fs::read(&bundle).expect("a full bundle");
    let at = bytes.len() - 9;
    bytes[at] ^= 1;
    fs::write(&bundle, bytes).expect("it is ours");
    assert_eq!(checked(&[&second]).code, 1, "the Go program finds a flipped bit");
    let from = second.display().to_string();
    let refused = writ.run(&["audit", "verify", "--export", &from, "--key", &key]).refused();
    assert!(refused.contains("entry 255 was altered"), "{refused}");
}

#[test]
fn the_servers_commits_are_merged_once_whatever_dies_and_the_nodes_chain_is_among_them() {
    let mut writ = Writ::up();
    for n in 0..5 {
        writ.entry(&format!("/n/{n}"), &[&own_uid()]);
        writ.kill(if n % 2 == 0 { "server" } else { "agent" });
        writ = writ.again();
    }
    assert!(merged(&writ, "entry.create") >= 5);
    let node = writ.node_id();
    eventually("the agent's records come up", SOON, || {
        let verified = writ.ask(&["audit", "verify"]);
        assert_eq!(verified["alarms"], 0, "{verified}");
        let nodes = verified["nodes"].as_array()?;
        nodes.iter().find(|one| one["node"] == node.as_str()).cloned()
    });
    let mut revisions = BTreeMap::new();
    for entry in entries(&writ) {
        if entry["record"]["author"].is_object() {
            *revisions.entry(entry["record"]["seq"].as_u64().expect("a revision")).or_insert(0) += 1;
        }
    }
    assert!(revisions.values().all(|times| *times == 1), "{revisions:?}");
    let newest = *revisions.keys().max().expect("there are some");
    assert_eq!(revisions.len() as u64, newest, "no revision is missing");
}

#[test]
fn whoever_reads_the_log_is_on_record() {
    let writ = Writ::up();
    writ.ask(&["audit", "verify"]);
    let reads = |what: &str| {
        entries(&writ).iter().any(|entry| {
            entry["record"]["kind"] == "audit.read"
                && entry["record"]["reason"].as_str().is_some_and(|reason| reason.contains(what))
        })
    };
    let _ = entries(&writ);
    assert!(reads("the whole log") && reads("entries"));
}
