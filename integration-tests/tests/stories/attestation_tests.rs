//! `writ attest test`: administrators test their attestation in their own CI.

use integration_tests::{Answer, Folder, Writ, writ_command};
use serde_json::{Value, json};

use crate::own_uid;

/// Runs tests of recorded facts, which need neither server nor agent.
fn recorded(folder: &Folder, tests: &str) -> Answer {
    let file = folder.write("tests.yaml", tests);
    Answer::of(writ_command().args(["attest", "test", "--output", "json"]).arg(file))
}

const ENTRIES: &str = "\
kind: Entry
spiffe_id: /triage
parent_id: local
selectors: [unix:uid:4242, unix:path:/opt/triage]
---
kind: Entry
spiffe_id: /elsewhere
parent_id: web-2
selectors: [unix:uid:4242]
";

#[test]
fn recorded_facts_are_tried_against_files_without_any_daemon() {
    let folder = Folder::new();
    folder.write("entries.yaml", ENTRIES);
    folder.write(
        "recording.json",
        r#"{"selectors":[{"selector":"unix:uid:4242","source":"s","strength":"kernel"}]}"#,
    );
    let answer = recorded(
        &folder,
        "entries: [entries.yaml]\nnode: local\ntrust_domain: acme.example\ntests:\n\
         - name: triage\n  facts: {recording: recording.json, selectors: [unix:path:/opt/triage]}\n  \
         expect: {selectors: [unix:uid:4242], absent: ['unix:sha256:*'], strong: [unix:uid:4242], ids: ['spiffe://acme.example/triage']}\n\
         - name: nobody\n  facts: {selectors: [unix:uid:1]}\n  expect: {ids: []}\n",
    );
    assert_eq!(answer.done().json()["passed"], 2);
}

#[test]
fn a_test_that_fails_says_which_selector_differs_in_text_json_and_junit() {
    let folder = Folder::new();
    folder.write("entries.yaml", ENTRIES);
    let tests = "entries: [entries.yaml]\nnode: local\ntests:\n\
         - name: <triage>\n  facts: {selectors: [unix:uid:4242, unix:path:/tmp/evil]}\n  \
         expect: {strong: ['unix:path:*'], ids: [/triage]}\n";
    let answer = recorded(&folder, tests);
    assert_eq!(answer.code, 1);
    let reasons = answer.json()["files"][0]["tests"][0]["reasons"].clone();
    assert!(reasons[0].as_str().is_some_and(|reason| reason.contains("but weak")), "{reasons}");
    let near = reasons[1].as_str().expect("a sentence").to_owned();
    assert!(near.contains("does not get /triage") && near.contains("entries.yaml, document 1"), "{near}");
    assert!(near.contains("asks for unix:path:/opt/triage, and it has unix:path:/tmp/evil"), "{near}");

    let (file, report) = (folder.join("tests.yaml"), folder.join("report.xml"));
    let text = Answer::of(writ_command().args(["attest", "test"]).arg(&file).arg("--junit").arg(&report));
    assert_eq!(text.code, 1);
    assert!(text.out.contains("FAILED  <triage>") && text.out.contains("0 passed, 1 failed"), "{}", text.out);
    let xml = std::fs::read_to_string(report).expect("the report was written");
    assert!(xml.contains("name=\"&lt;triage&gt;\"") && xml.contains("failures=\"1\""), "{xml}");
}

#[test]
fn a_file_that_is_wrong_is_wrong_usage_and_nothing_is_started() {
    let folder = Folder::new();
    let touched = folder.join("touched");
    let started =
        format!("- name: a\n  process: {{command: [touch, {}]}}\n  expect: {{ids: []}}\n", touched.display());
    for (tests, part) in [
        (format!("tests:\n{started}- name: b\n  expect: {{ids: []}}\n"), "is about one of"),
        (
            format!(
                "tests:\n{started}- name: b\n  facts: {{selectors: [unix:uid:1]}}\n  expect: {{absent: [unix:usr:a]}}\n"
            ),
            "did you mean",
        ),
        ("tests: []\n".to_owned(), "no tests"),
        (format!("entries: [none.yaml]\ntests:\n{started}"), "none.yaml"),
        ("{".to_owned(), "tests.yaml"),
        (format!("tests: [{}]", "[".repeat(1000)), "a test is a map"),
    ] {
        let answer = recorded(&folder, &tests);
        assert_eq!(answer.code, 2, "{tests}\n{}{}", answer.out, answer.err);
        assert!(answer.err.contains(part), "{part:?} is not in {}", answer.err);
    }
    assert!(!touched.exists());
}

#[test]
fn live_processes_are_tried_against_the_agent_and_their_recordings_against_the_server() {
    let writ = Writ::up();
    let folder = Folder::new();
    writ.entry("/sleeper", &[&own_uid(), "unix:path:/bin/none-such"]);
    writ.entry("/user", &[&own_uid()]);
    let live = format!(
        "tests:\n\
         - name: a process of mine\n  process: {{command: [sleep, '600']}}\n  \
         expect: {{selectors: ['{0}', 'unix:sha256:*'], ids: [/user]}}\n\
         - name: by a command\n  pid_of: [echo, '{1}']\n  expect: {{selectors: ['{0}'], ids: [/user]}}\n",
        own_uid(),
        writ.pid(),
    );
    let file = folder.write("live.yaml", live);
    let file = file.to_string_lossy();
    assert_eq!(writ.ask(&["attest", "test", &file])["passed"], 2);
    let skipped = writ.ask(&["attest", "test", &file, "--recorded"]);
    assert_eq!((&skipped["passed"], &skipped["skipped"]), (&json!(0), &json!(2)));

    let pid = writ.pid().to_string();
    let recorded = writ.run(&["attest", "record", "--pid", &pid, "--name", "the supervisor"]).done().out;
    let file = folder.write("recorded.yaml", recorded);
    assert_eq!(writ.ask(&["attest", "test", &file.to_string_lossy()])["passed"], 1);
    let recording: Value = writ.ask(&["attest", "record", "--pid", &pid]);
    assert!(
        recording["selectors"].as_array().is_some_and(|facts| !facts.is_empty())
            && recording["matches"].is_null()
    );
}

#[test]
fn a_process_that_ends_or_cannot_be_started_breaks_its_test_and_no_other() {
    let writ = Writ::up();
    let folder = Folder::new();
    let tests = "tests:\n\
         - name: ends\n  process: {command: ['true']}\n  expect: {ids: [/never]}\n\
         - name: is not there\n  process: {command: [/no/such/program]}\n  expect: {ids: []}\n\
         - name: nobody's pid\n  pid_of: [echo, none]\n  expect: {ids: []}\n\
         - name: waits\n  process: {command: [sleep, '600']}\n  expect: {ids: []}\n";
    let file = folder.write("tests.yaml", tests);
    let answer = writ.run(&["attest", "test", &file.to_string_lossy(), "--output", "json"]);
    assert_eq!(answer.code, 1, "{}", answer.err);
    let report = answer.json();
    let verdicts: Vec<_> = (0..4).map(|n| report["files"][0]["tests"][n]["verdict"].clone()).collect();
    assert_eq!(verdicts, ["broken", "broken", "broken", "passed"], "{report}");
}
