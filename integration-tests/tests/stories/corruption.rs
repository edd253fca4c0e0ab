//! A byte that changed on disk is noticed before anything of it is served.

use std::fs;
use std::path::Path;
use std::time::Duration;

use integration_tests::{Running, Writ, writ_command};

use crate::own_uid;

#[test]
fn a_flipped_byte_in_any_row_stops_the_server_and_names_the_command_that_restores() {
    let writ = Writ::up();
    writ.entry("/flip-me", &[&own_uid()]);
    let (mut folder, mut data) = writ.down();
    // A server that was stopped in a hurry leaves its newest rows beside the database; the next one
    // takes them in.
    for _ in 0..5 {
        if !data.join("state/server/log.db-wal").exists() {
            break;
        }
        (folder, data) = Writ::up_at(folder, data, &[]).down();
    }
    let log = data.join("state/server/log.db");
    let whole = fs::read(&log).expect("it is ours");
    let mark = fs::read(log.with_extension("mark")).expect("it is ours");
    let needle = b"/flip-me";
    let places: Vec<_> =
        (0..whole.len() - needle.len()).filter(|at| whole[*at..].starts_with(needle)).collect();
    assert!(places.len() >= 2, "an object and its event hold the path, found {}", places.len());

    let mut noticed = 0;
    for place in places {
        let mut changed = whole.clone();
        changed[place + 1] = b'g';
        put_back(&log, &changed, &mark);
        let mut command = writ_command();
        command.args(["up", "--output", "json", "--data"]).arg(&data);
        let mut up = Running::start(&mut command, &format!("up-{place}"), folder.path());
        if up.line_unless_it_ends(Duration::from_secs(20)).is_some() {
            // SQLite leaves old bytes in space that no row uses; nothing reads them, so nothing changed.
            let shown =
                writ_command().args(["entry", "show", "--data"]).arg(&data).output().expect("it runs");
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            assert!(shown.contains("/flip-me"), "byte {place} is served changed:\n{shown}");
            up.stop();
            continue;
        }
        assert!(!up.ended(Duration::from_secs(20)).success(), "byte {place}: it ended as if all were well");
        let said = up.log();
        assert!(
            said.contains("writ backup restore"),
            "byte {place}: the sentence names the way out:\n{said}"
        );
        noticed += 1;
    }
    assert!(noticed >= 2, "the object's row and its event's, but {noticed} were noticed");

    put_back(&log, &whole, &mark);
    let writ = Writ::up_at(folder, data, &[]);
    assert!(writ.run(&["entry", "show"]).done().out.contains("/flip-me"), "unchanged it is served again");
}

/// The database with these bytes and its mark of then, and nothing of what a run since then has left
/// beside it.
fn put_back(log: &Path, bytes: &[u8], mark: &[u8]) {
    for side in ["-wal", "-shm"] {
        let mut name = log.as_os_str().to_owned();
        name.push(side);
        let _ = fs::remove_file(name); // mostly there is none
    }
    fs::write(log, bytes).expect("it is ours");
    fs::write(log.with_extension("mark"), mark).expect("it is ours");
}
