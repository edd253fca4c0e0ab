//! The folders of `examples/` that are read beside a running product: their files are accepted, their tests
//! pass, and their scripts run.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize as _;
use serde_json::Value;

use integration_tests::{Answer, Folder, Writ, needs, writ_binary, writ_command};

/// Each has entries and tests.
const FOLDERS: [&str; 5] = ["ci", "docker", "kubernetes", "run", "systemd"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// A folder's files in one of the test's own, each changed a little.
pub(crate) fn copy(name: &str, change: impl Fn(&str) -> String) -> Folder {
    let copy = Folder::new();
    for file in std::fs::read_dir(folder(name)).expect("it is there") {
        let path = file.expect("it can be read").path();
        let text = std::fs::read_to_string(&path).expect("they are texts");
        copy.write(&path.file_name().expect("it has one").to_string_lossy(), change(&text));
    }
    copy
}

#[test]
fn the_recorded_tests_of_each_folder_pass_without_any_daemon() {
    for name in FOLDERS {
        let file = folder(name).join("attest-tests.yaml");
        let mut command = writ_command();
        let answer = Answer::of(command.args(["attest", "test", "--recorded", "--output", "json"]).arg(file));
        let report = answer.done().json();
        assert!(report["passed"].as_u64() >= Some(2), "{name}: {report}");
    }
}

#[test]
fn the_entries_of_each_folder_are_accepted_without_a_warning() {
    let writ = Writ::up();
    for name in FOLDERS {
        let file = folder(name).join("entries.yaml");
        let answer = writ.run(&["apply", "--file", &file.to_string_lossy()]).done();
        assert!(answer.err.is_empty(), "{name}: {}", answer.err);
    }
}

#[test]
fn the_pipeline_tries_its_tests_on_a_server_and_an_agent_of_its_own_and_leaves_nothing() {
    if !needs::root() {
        return; // it starts a process of another user
    }
    let work = Folder::new();
    let report = work.join("report.xml");
    let path =
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", writ_binary().parent().expect("a folder").display());
    let mut script = Command::new(folder("ci").join("attest.sh"));
    script
        .arg(folder("ci"))
        .arg(&report)
        .env("PATH", path)
        .env("TMPDIR", work.path())
        .env_remove("WRIT_DATA");
    let answer = Answer::of(&mut script).done();
    assert!(answer.out.contains("4 passed, 0 failed"), "{}{}", answer.out, answer.err);
    let xml = std::fs::read_to_string(&report).expect("it wrote a report");
    assert!(xml.contains("tests=\"4\" failures=\"0\" errors=\"0\" skipped=\"0\""), "{xml}");
    let left = std::fs::read_dir(work.path()).expect("it is ours").count();
    assert_eq!(left, 1, "only the report is left");
}

#[test]
fn the_launch_is_measured_and_started_by_its_test_and_the_script_alone_is_nobody() {
    if !(needs::root() && needs::program("python3", "python3")) {
        return;
    }
    let writ = Writ::up();
    let entries = folder("run").join("entries.yaml");
    let _ = writ.run(&["apply", "--file", &entries.to_string_lossy()]).done();
    let mut command = writ.command(&["attest", "test", "attest-tests.yaml", "--output", "json"]);
    let report = Answer::of(command.current_dir(folder("run"))).done().json();
    assert_eq!((&report["passed"], &report["failed"]), (&5.into(), &0.into()), "{report}");
}

#[test]
fn the_manifests_of_kubernetes_hold_a_configuration_that_loads_and_mount_what_it_names() {
    let objects = |name: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(folder("kubernetes").join(name)).expect("it is there");
        let documents = serde_norway::Deserializer::from_str(&text);
        documents.map(|document| Value::deserialize(document).expect("it is YAML")).collect()
    };
    let agent = objects("agent.yaml");
    let of_kind = |kind: &str| agent.iter().find(|object| object["kind"] == kind).expect("it is there");
    let config = of_kind("ConfigMap")["data"]["agent.toml"].as_str().expect("a text");
    let work = Folder::new();
    let file = work.write("agent.toml", config);
    let _ = Answer::of(writ_command().args(["agent", "check-config"]).arg(file)).done();

    let pod = &of_kind("DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(pod["hostPID"], true, "it sees the processes of the node");
    let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("a list");
    for directory in ["/run/writ/public", "/run/writ/private", "/var/lib/writ", "/etc/writ"] {
        assert!(mounts.iter().any(|mount| mount["mountPath"] == directory), "{directory}");
    }
    let workload = objects("triage.yaml");
    let deployment = workload.iter().find(|object| object["kind"] == "Deployment").expect("it is there");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/run/writ/public");
    assert_eq!(container["volumeMounts"][0]["readOnly"], true);
}

#[test]
fn the_workflow_runs_what_the_pipeline_has() {
    let text = std::fs::read_to_string(folder("ci").join("attest.yml")).expect("it is there");
    let workflow: serde_json::Value = serde_norway::from_str(&text).expect("it is YAML");
    let steps = workflow["jobs"]["attest"]["steps"].as_array().expect("it has steps");
    let runs: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert!(runs.iter().any(|run| run.contains("writ attest test --recorded --junit")), "{runs:?}");
    assert!(runs.iter().any(|run| run.contains("attest.sh attestation")), "{runs:?}");
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    if !needs::program("systemd-analyze", "systemd") {
        return;
    }
    let work = Folder::new();
    let unit = std::fs::read_to_string(folder("systemd").join("triage.service")).expect("it is there");
    // The program and its user are the reader's.
    let unit = unit.replace("/opt/triage/run", "/bin/true").replace("User=triage", "User=root");
    let file = work.write("triage.service", unit);
    let answer = Answer::of(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(file));
    assert!(!answer.err.contains("triage.service"), "{}", answer.err);
}
