//! Records that somebody with the database in hand has changed.

use std::path::Path;
use std::process::Command;

use integration_tests::guarded::Guarded;
use integration_tests::{Answer, Running, Writ, needs, writ_command};

use super::{clerk, file};
use crate::SOON;

/// What a database's administrator may do to an entry, as statements for SQLite.
const DEEDS: [(&str, &str); 3] = [
    (
        "edited",
        "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), 'deny', 'DENY') AS BLOB) WHERE idx = :at",
    ),
    ("deleted", "DELETE FROM entries WHERE idx = :at"),
    (
        "exchanged with the next one",
        "UPDATE entries SET idx = -1 WHERE idx = :at; UPDATE entries SET idx = :at WHERE idx = :at + 1; \
         UPDATE entries SET idx = :at + 1 WHERE idx = -1",
    ),
];

/// A24: an administrator of the database edits, deletes and reorders rows.
#[test]
fn a_row_that_was_edited_deleted_or_exchanged_in_the_database_is_named_by_verify() {
    let Some(guarded) = Guarded::up(&[("desk", clerk())]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    agent.denied("files/read_text_file", file(&guarded, "agent/client.py"), "argument_out_of_scope");
    let _ = agent.done("files/read_text_file", file(&guarded, "docs/plain.txt"));
    guarded.denied(&task, "files/read_text_file", "argument_out_of_scope");
    guarded.allowed(&task, "files/read_text_file", "executed");
    let entries = guarded.entries();
    let denial =
        entries.iter().position(|entry| entry["record"]["decision"] == "deny").expect("it is recorded");
    let index = entries[denial]["index"].as_u64().expect("an entry has an index");
    let python = needs::mcp().expect("it was there a moment ago").python;
    drop(agent);
    let (mut folder, data) = guarded.down();
    let whole = folder.join("whole");
    copy(&data.join("state/server"), &whole);
    for (deed, statements) in DEEDS {
        let _ = std::fs::remove_dir_all(data.join("state/server"));
        copy(&whole, &data.join("state/server"));
        change(&python, &data, &statements.replace(":at", &index.to_string()));
        let writ = Writ::up_at(folder, data.clone(), &[]);
        let found = writ.run(&["audit", "verify"]).refused();
        assert!(found.contains(&format!("entry {index} ")), "{deed}: {found}");
        (folder, _) = writ.down();
    }
}

/// A24: the same administrator also takes away what would contradict the change, and has the server sign it.
#[test]
fn a_server_signs_nothing_behind_entries_that_its_checkpoint_was_not_signed_for() {
    let Some(mcp) = needs::mcp() else { return };
    let (folder, data) = Writ::up().down();
    let statements = "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), 'done', 'DONE') AS BLOB) \
                      WHERE idx = (SELECT min(idx) FROM entries WHERE CAST(leaf AS TEXT) LIKE '%\"done\"%'); \
                      DELETE FROM meta WHERE name = 'last_tile'";
    change(&mcp.python, &data, statements);
    let mut command = writ_command();
    command.args(["up", "--output", "json", "--data"]).arg(&data);
    let mut up = Running::start(&mut command, "up", folder.path());
    assert_eq!(up.line_unless_it_ends(SOON * 2), None, "it must not be ready");
    assert!(!up.ended(SOON).success(), "it ended as if all were well");
    assert!(up.log().contains("were signed") && up.log().contains("writ backup restore"), "{}", up.log());
}

/// Runs statements on the audit log's database, with what anybody has at hand.
fn change(python: &Path, data: &Path, statements: &str) {
    let script =
        "import sqlite3, sys\nd = sqlite3.connect(sys.argv[1])\nd.executescript(sys.argv[2])\nd.commit()";
    let mut command = Command::new(python);
    command.args(["-c", script]).arg(data.join("state/server/audit.db")).arg(statements);
    let _ = Answer::of(&mut command).done();
}

fn copy(from: &Path, to: &Path) {
    let _ = Answer::of(Command::new("cp").arg("-a").arg(from).arg(to)).done();
}
