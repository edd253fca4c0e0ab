//! `writ demo`: the whole story in one command.

use integration_tests::{Answer, needs, writ_binary, writ_command};

#[test]
fn the_demo_tells_what_happened_and_leaves_nothing_behind() {
    let told = Answer::of(writ_command().arg("demo")).done().out;
    let words = ["spiffe://", "mutual TLS", "refused", "explain"];
    let of_work = [
        "nothing; with nobody asking it may begin sort-tickets, and no other",
        "denied in",
        "no_task",
        "argument_out_of_scope",
        "sent to ada@demo.example",
        "label_exceeds_clearance",
        "entries are as they were signed",
        "read_payroll  read  allowed  executed  [confidentiality 2, payroll",
        "ended: done",
    ];
    for word in words.iter().chain(&of_work) {
        assert!(told.contains(word), "it tells of `{word}`:\n{told}");
    }
    for (what, came) in promised() {
        let is_told = told.lines().any(|line| line.contains(&what) && line.ends_with(&came));
        assert!(is_told, "the README says `{what}` and `{came}`:\n{told}");
    }
    let place =
        told.lines().next().and_then(|line| line.split([' ', ',']).find(|word| word.contains("writ-demo-")));
    let place = place.expect("it says where everything happens");
    assert!(!std::path::Path::new(place).exists(), "{place} is removed");
    assert_eq!(leftovers(place), 0, "no process of it lives on");
}

#[test]
fn the_demo_needs_no_root() {
    if !needs::root() {
        return; // whoever is not root has seen it in the other test
    }
    let home = tempfile::tempdir().expect("a directory");
    let program = home.path().join("writ");
    std::fs::copy(writ_binary(), &program).expect("room for a copy");
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("it is ours");
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).arg("demo");
    let told = Answer::of(command.env("TMPDIR", "/tmp").env("HOME", "/nonexistent")).done().out;
    assert!(told.contains("ended: done"), "{told}");
}

/// What the README shows of the demo: what was tried, and what came of it. An id and a number of entries are another each
/// time.
fn promised() -> Vec<(String, String)> {
    let page = include_str!("../../../README.md");
    let block = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    let rows = block.expect("the README shows what the demo tells").lines().filter_map(|row| {
        let (what, came) = row.split_once("  ")?;
        let came = came.trim_start();
        let came = if came.starts_with("spiffe://") { "" } else { came };
        let came =
            came.trim_start_matches("denied: ").trim_start_matches(|digit: char| digit.is_ascii_digit());
        Some((what.to_owned(), came.to_owned()))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() >= 9, "{rows:?}");
    rows
}

/// Processes whose command line names a demo's directory.
fn leftovers(place: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("it is mounted").flatten();
    all.filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(place)
    })
    .count()
}
