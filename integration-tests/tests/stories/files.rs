//! Nobody but the owner can read what must stay private.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use integration_tests::{Running, Writ, writ_command};

use crate::{SOON, own_uid};

#[test]
fn everything_below_state_and_private_belongs_to_its_owner_alone() {
    let writ = Writ::up();
    writ.entry("/files", &[&own_uid()]);
    let mut seen = 0;
    for tree in ["state", "private"] {
        for (path, mode, folder) in walk(&writ.data().join(tree)) {
            let allowed = if folder { 0o700 } else { 0o600 };
            assert_eq!(mode, allowed, "{} has mode {mode:o}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 8, "only {seen} files were looked at");
}

#[test]
fn the_public_folder_holds_nothing_but_sockets() {
    let writ = Writ::up();
    for entry in fs::read_dir(writ.data().join("public")).expect("it is there").flatten() {
        let kind = entry.file_type().expect("it has a type");
        assert!(kind.is_socket(), "{} is not a socket", entry.path().display());
    }
}

#[test]
fn a_key_that_others_could_read_stops_the_start_with_its_path_and_a_remedy() {
    let (folder, data) = Writ::up().down();
    let key = data.join("state/server/pin.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("it is ours");
    let mut command = writ_command();
    let mut again =
        Running::start(command.args(["up", "--output", "json", "--data"]).arg(&data), "again", folder.path());
    let code = again.ended(SOON).code();
    let said = again.log();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("pin.key") && said.contains("chmod"), "{said}");
}

/// Everything below a folder: its path, its mode and whether it is a folder. What is written at the moment
/// has a name only until it is renamed, so what vanishes while somebody looks is passed over.
pub(crate) fn walk(root: &Path) -> Vec<(PathBuf, u32, bool)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let about = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && path != root => continue,
            about => about.expect("it is ours"),
        };
        if about.is_dir() {
            open.extend(fs::read_dir(&path).expect("it is ours").flatten().map(|entry| entry.path()));
        }
        found.push((path, about.permissions().mode() & 0o7777, about.is_dir()));
    }
    found
}
