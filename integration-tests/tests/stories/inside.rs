//! A story that runs again inside something: a namespace, a cgroup, a smaller set of rights.

use std::env;
use std::process::Command;

/// Runs the story of this name again in another process, below the command that is given, and says
/// whether this is that other process.
pub(crate) fn inside(story: &str, below: &[&str]) -> bool {
    if env::var_os(INSIDE).is_some_and(|name| name == story) {
        return true;
    }
    let done = Command::new(below[0])
        .args(&below[1..])
        .arg(env::current_exe().expect("a test knows its own program"))
        .args([story, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, story)
        .output()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", below[0]));
    let said = String::from_utf8_lossy(&done.stdout);
    // Nor may it be that no story of this name was found.
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{story} inside {}: {said}{}",
        below[0],
        String::from_utf8_lossy(&done.stderr)
    );
    false
}

const INSIDE: &str = "WRIT_STORY_INSIDE";
