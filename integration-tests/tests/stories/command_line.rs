//! Whoever types something wrong is told what, and what to do; whoever types it right may script it.

use std::fs;
use std::process::Stdio;

use integration_tests::{Answer, Folder, Running, Writ, eventually, writ_command};
use nix::sys::signal::Signal;

use crate::SOON;

fn create<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["entry", "create", "--parent", "local"], more].concat()
}

#[test]
fn what_only_another_command_line_can_mend_exits_with_2_and_names_the_value() {
    let writ = Writ::up();
    let one = ["--selector", "unix:uid:1", "--spiffe-id"];
    for (arguments, says) in [
        (create(&[&one[..], &["web"]].concat()), "spiffe_id \"web\""),
        (create(&[&one[..], &["/a//b"]].concat()), "\"/a//b\""),
        (create(&[&one[..], &["/a", "--dns", "-"]].concat()), "\"-\" is not a DNS name"),
        (
            create(&["--spiffe-id", "/a", "--selector", "unix:uid:4294967296"]),
            "a uid is a number from 0 to 4294967294",
        ),
        (create(&["--spiffe-id", "/a", "--selector", "unix:UID:0"]), "did you mean unix:uid:0?"),
        (create(&["--spiffe-id", "/a", "--selector", "gpu:model:a"]), "other_selector_kinds"),
        (create(&[&one[..], &["/a", "--ttl", "1500ms"]].concat()), "--ttl"),
        (vec!["entry", "update", "some-id"], "--clear"),
        (vec!["token", "create", "--ttl", "0s"], "--ttl"),
        (vec!["token", "create", "--node", "a b"], "\"a b\""),
        (vec!["node", "show", "a b"], "\"a b\""),
        (vec!["fetch", "x509", "--socket", "unix://relative"], "--socket"),
    ] {
        let answer = writ.run(&arguments);
        assert_eq!(answer.code, 2, "{arguments:?}: {}{}", answer.out, answer.err);
        assert!(answer.err.contains(says), "{arguments:?}: {}", answer.err);
    }
    assert_eq!(writ.ask(&["entry", "count"])["count"], 0);
}

#[test]
fn what_is_not_there_exits_with_1_and_says_where_to_look() {
    let writ = Writ::up();
    for (arguments, says) in [
        (["token", "show", "nobody"], "writ token show"),
        (["node", "show", "nobody"], "writ node list"),
        (["entry", "show", "nothing"], "writ entry show"),
    ] {
        let refusal = writ.run(&arguments).refused();
        assert!(refusal.contains(says), "{refusal}");
    }
}

#[test]
fn an_update_clears_what_it_is_told_to_clear() {
    let writ = Writ::up();
    let full = create(&[
        "--spiffe-id",
        "/full",
        "--selector",
        "unix:uid:4242",
        "--dns",
        "a.example",
        "--hint",
        "h",
        "--expires-at",
        "2090-01-01T00:00:00Z",
    ]);
    let entry = writ.ask(&full);
    let id = entry["id"].as_str().expect("an entry has an id");
    let cleared =
        writ.ask(&["entry", "update", id, "--clear", "dns", "--clear", "expires-at", "--ttl", "5m"]);
    assert_eq!(cleared["x509_svid_ttl"], 300);
    assert_eq!(cleared["hint"], "h", "what is not named stays");
    assert!(cleared["expires_at"].is_null(), "{cleared}");
    assert!(cleared["dns_names"].as_array().is_none_or(Vec::is_empty), "{cleared}");
}

#[test]
fn warnings_are_in_the_json_of_entries_that_are_made_and_applied() {
    let writ = Writ::up();
    let twice = create(&["--spiffe-id", "/two", "--selector", "unix:uid:5", "--selector", "unix:uid:6"]);
    let warned = writ.ask(&twice)["warnings"].to_string();
    assert!(warned.contains("no process has both unix:uid:5 and unix:uid:6"), "{warned}");

    let file = writ.data().with_extension("yaml");
    let text = "kind: Entry\nspiffe_id: /script\nparent_id: local\nselectors: [unix:path:/bin/sh]\nx509_svid_ttl: 15m\n";
    fs::write(&file, text).expect("it is ours");
    let applied = writ.ask(&["apply", "-f", &file.to_string_lossy()]);
    assert!(applied["warnings"].to_string().contains("is an interpreter"), "{applied}");
    let listed = writ.ask(&["entry", "list"]);
    assert!(listed.to_string().contains("\"x509_svid_ttl\":900"), "{listed}");
}

#[test]
fn what_entry_list_prints_can_be_applied_and_changes_nothing() {
    let writ = Writ::up();
    let _ = writ.run(&create(&["--spiffe-id", "/one", "--selector", "unix:uid:4242", "--ttl", "15m"])).done();
    let nodes = [
        "entry",
        "create",
        "--spiffe-id",
        "/two",
        "--parent",
        "aws_iid:tag:team:a",
        "--selector",
        "unix:uid:1",
    ];
    let _ = writ.run(&nodes).done();
    let before = writ.run(&["entry", "list", "--output", "json"]).done().out;
    let file = writ.data().with_extension("json");
    fs::write(&file, &before).expect("it is ours");
    let mut command = writ.command(&["apply", "-f", "-", "--output", "json"]);
    let applied = Answer::of(command.stdin(Stdio::from(fs::File::open(&file).expect("it is ours"))));
    let effects: Vec<_> =
        applied.clone().done().out.lines().map(|line| line.contains("\"effect\":\"unchanged\"")).collect();
    assert_eq!(effects, [true; 3], "{}", applied.out);
    assert_eq!(writ.run(&["entry", "list", "--output", "json"]).done().out, before);
}

#[test]
fn status_of_one_socket_is_that_of_one_daemon() {
    let writ = Writ::up();
    for (socket, one, other) in
        [(writ.server_socket(), "server", "agent"), (writ.agent_socket(), "agent", "server")]
    {
        let socket = socket.to_string_lossy();
        let page =
            Answer::of(writ_command().args(["status", "--output", "json", "--socket", &socket])).done();
        let page = page.json();
        assert!(page[one]["version"].is_string() && page.get(other).is_none(), "{page}");
    }
    let nobody = Answer::of(writ_command().args(["status", "--socket", "/nobody/is.here"]));
    assert_eq!(nobody.code, 1);
    assert!(nobody.out.contains("/nobody/is.here"), "{}", nobody.out);
}

#[test]
fn explain_tells_a_process_that_may_not_be_read_from_one_that_is_not_there() {
    let writ = Writ::up();
    let refusal = writ.run(&["explain", "--pid", "4194304"]).refused();
    assert!(refusal.contains("there is no process 4194304"), "{refusal}");
    // A kernel thread, where they can be seen, has no executable; else init is often out of reach.
    for pid in ["2", "1"] {
        if fs::exists(format!("/proc/{pid}")).unwrap_or(false)
            && fs::read_link(format!("/proc/{pid}/exe")).is_err()
        {
            let refusal = writ.run(&["explain", "--pid", pid]).refused();
            assert!(refusal.contains(&format!("process {pid} may not be read")), "{refusal}");
        }
    }
}

#[test]
fn there_is_a_man_page_for_each_command_with_its_examples() {
    let folder = Folder::new();
    let _ = Answer::of(writ_command().arg("man").arg(folder.path())).done();
    let page = fs::read_to_string(folder.join("writ-token-create.1")).expect("it is there");
    assert!(page.contains("writ token create") && page.contains("ttl"), "{page}");
    assert!(folder.join("writ.1").exists());
}

#[test]
fn a_demo_that_is_told_to_end_leaves_nothing_behind() {
    let folder = Folder::new();
    let mut command = writ_command();
    command.args(["demo", "--output", "json"]).env("TMPDIR", folder.path());
    let mut demo = Running::start(&mut command, "demo", folder.path());
    demo.json("its first step", SOON * 3, |line| line["step"].is_number());
    demo.signal(Signal::SIGTERM);
    demo.ended(SOON * 3);
    let kept: Vec<_> =
        fs::read_dir(folder.path()).expect("it is ours").flatten().map(|file| file.path()).collect();
    assert_eq!(kept, [folder.join("demo.log")], "no directory of it is left");
    eventually("no process of it lives on", SOON, || {
        let mut lines = fs::read_dir("/proc").expect("it is mounted").flatten().map(|process| {
            String::from_utf8_lossy(&fs::read(process.path().join("cmdline")).unwrap_or_default())
                .into_owned()
        });
        let place = folder.path().to_string_lossy().into_owned();
        (!lines.any(|line| line.contains(&place))).then_some(())
    });
}
