//! Two programs of one user are two workloads where the entries say so.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use integration_tests::{Answer, Folder, Running, Writ, needs, test_workload};
use serde_json::Value;

use crate::{SOON, own_uid};

fn ask(writ: &Writ, command: &mut Command) -> Value {
    Answer::of(command.arg("fetch").arg(writ.workload_socket())).json()
}

#[test]
fn path_and_sha256_tell_programs_apart() {
    let writ = Writ::up();
    let folder = Folder::new();
    let one = folder.copy(&test_workload(), "one");
    let other = folder.copy(&test_workload(), "other");
    let mut changed = std::fs::read(&other).expect("it is ours");
    changed.push(0);
    std::fs::remove_file(&other).expect("it is ours");
    std::fs::write(&other, changed).expect("it is ours");
    make_executable(&other);
    let sum = |path| Answer::of(Command::new("sha256sum").arg(path)).done().out[..64].to_owned();
    writ.entry("/by-path", &[&own_uid(), &format!("unix:path:{}", one.display())]);
    writ.entry("/by-sum", &[&own_uid(), &format!("unix:sha256:{}", sum(&other))]);
    let eventually_ids = |program: &std::path::Path| {
        integration_tests::eventually("an identity", SOON, || {
            let answer = ask(&writ, &mut Command::new(program));
            answer["ids"].is_array().then(|| answer["ids"].clone())
        })
    };
    assert_eq!(eventually_ids(&one)[0], writ.id("/by-path"));
    assert_eq!(eventually_ids(&other)[0], writ.id("/by-sum"));
    let third = folder.copy(&test_workload(), "third");
    assert_eq!(ask(&writ, &mut Command::new(third))["code"], "PermissionDenied");
}

#[test]
fn another_user_is_another_workload() {
    if !needs::root() {
        return;
    }
    let writ = Writ::up();
    let folder = Folder::new();
    let program = folder.copy(&test_workload(), "program");
    writ.entry("/mine", &[&own_uid()]);
    writ.entry("/nobodys", &["unix:uid:65534", "unix:gid:65534"]);
    let mut nobody = Command::new(&program);
    nobody.uid(65534).gid(65534);
    let answer = integration_tests::eventually("an identity", SOON, || {
        let answer = ask(&writ, &mut nobody);
        nobody = Command::new(&program);
        nobody.uid(65534).gid(65534);
        answer["ids"].is_array().then_some(answer)
    });
    assert_eq!(answer["ids"], serde_json::json!([writ.id("/nobodys")]));
}

#[test]
fn explain_names_the_selector_that_differs() {
    let writ = Writ::up();
    writ.entry("/almost", &[&own_uid(), "unix:path:/usr/bin/true-not"]);
    let folder = Folder::new();
    let sleeper = Running::start(Command::new("cat").env_clear(), "cat", folder.path());
    let explained = writ.run(&["explain", "--pid", &sleeper.pid().to_string()]).done().out;
    assert!(explained.contains("unix:path:/usr/bin/true-not"), "{explained}");
    assert!(explained.contains(&own_uid()), "{explained}");
}

#[test]
fn an_entry_that_rests_on_path_or_sum_alone_is_accepted_with_a_warning() {
    let writ = Writ::up();
    let answer = writ
        .run(&[
            "entry",
            "create",
            "--spiffe-id",
            "/weak",
            "--parent",
            "local",
            "--selector",
            "unix:path:/bin/cat",
        ])
        .done();
    assert!(format!("{}{}", answer.out, answer.err).to_lowercase().contains("warning"), "{answer:?}");
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
}
