//! `writ demo`: the whole story in one command.

use integration_tests::{Answer, writ_command};

#[test]
fn the_demo_tells_what_happened_and_leaves_nothing_behind() {
    let before = leftovers();
    let told = Answer::of(writ_command().arg("demo")).done().out;
    for word in ["spiffe://", "mutual TLS", "refused", "explain"] {
        assert!(told.contains(word), "it tells of `{word}`:\n{told}");
    }
    assert_eq!(leftovers(), before, "no process of it lives on");
}

/// Processes whose command line names a demo's directory.
fn leftovers() -> usize {
    let all = std::fs::read_dir("/proc").expect("it is mounted").flatten();
    all.filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("writ-demo")
    })
    .count()
}
