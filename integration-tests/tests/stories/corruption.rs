//! A byte that changed on disk is noticed before anything of it is served.

use std::fs;
use std::time::Duration;

use integration_tests::{Running, Writ, writ_command};

use crate::own_uid;

#[test]
fn a_flipped_byte_in_any_row_stops_the_server_and_names_the_command_that_restores() {
    let writ = Writ::up();
    writ.entry("/flip-me", &[&own_uid()]);
    let (folder, data) = writ.down();
    let log = data.join("state/server/log.db");
    let whole = fs::read(&log).expect("it is ours");
    let needle = b"/flip-me";
    let places: Vec<_> =
        (0..whole.len() - needle.len()).filter(|at| whole[*at..].starts_with(needle)).collect();
    assert!(places.len() >= 2, "an object and its event hold the path, found {}", places.len());

    for place in places {
        let mut changed = whole.clone();
        changed[place + 1] = b'g';
        fs::write(&log, changed).expect("it is ours");
        let mut command = writ_command();
        command.args(["up", "--output", "json", "--data"]).arg(&data);
        let mut up = Running::start(&mut command, &format!("up-{place}"), folder.path());
        let status = up.ended(Duration::from_secs(20));
        assert!(!status.success(), "a changed row at byte {place} was served");
        let said = up.log();
        assert!(
            said.contains("writ backup restore"),
            "byte {place}: the sentence names the way out:\n{said}"
        );
    }

    fs::write(&log, whole).expect("it is ours");
    let writ = Writ::up_at(folder, data, &[]);
    assert!(writ.run(&["entry", "show"]).done().out.contains("/flip-me"), "unchanged it is served again");
}
