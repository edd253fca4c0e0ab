//! Rules about the text of the code, where cargo has no word for them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Words that belong to one room. They are looked for in code without comments and without tests.
const OWNED: [Owned; 4] = [
    Owned {
        what: "`unsafe`",
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"],
        home: |file| file.starts_with("peer/") || file.starts_with("xtask/"), // the words themselves
        belongs: "peer",
    },
    Owned {
        what: "SQL",
        words: &["\"SELECT ", "\"INSERT ", "\"UPDATE ", "\"DELETE FROM", "CREATE TABLE", "PRAGMA "],
        home: |file| file.starts_with("store/") || file.starts_with("xtask/"),
        belongs: "store",
    },
    Owned {
        what: "a generated type",
        words: &["proto::workload", "proto::spire", "proto::writ"],
        home: |file| {
            let glue = ["/wire.rs", "/wire/", "/glue.rs", "/glue/"].iter().any(|part| file.contains(part));
            glue || ["proto/", "xtask/"].iter().any(|room| file.starts_with(room))
        },
        belongs: "a module called wire, or the service glue",
    },
    Owned {
        what: "a signing key of the server",
        words: &["rcgen::", "EcdsaKeyPair", ".signed_by("],
        home: |file| file.starts_with("server/src/ca/") || !file.starts_with("server/"),
        belongs: "server/src/ca",
    },
];

/// A file longer than this holds more than one noun or verb.
const LINES: usize = 500;

struct Owned {
    what: &'static str,
    words: &'static [&'static str],
    home: fn(&str) -> bool,
    belongs: &'static str,
}

/// Reads every Rust file of the repository.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for path in rust_files(root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        broken.extend(judge(&file, &text));
    }
    Ok(broken)
}

fn judge(file: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let product = if is_test(file) { Vec::new() } else { product_code(text) };
    for owned in OWNED.iter().filter(|owned| !(owned.home)(file)) {
        for (number, line) in &product {
            if owned.words.iter().any(|word| line.contains(word)) {
                broken
                    .push(format!("{file}:{number} has {}, which belongs to {}", owned.what, owned.belongs));
            }
        }
    }
    let lines = text.lines().count();
    if lines > LINES {
        broken.push(format!("{file} has {lines} lines; cut it before it passes {LINES}"));
    }
    if text.lines().any(|line| line.trim_start().starts_with("#[ignore")) {
        broken.push(format!("{file} has an ignored test; mend it or remove it"));
    }
    broken
}

/// Tests may look at everything.
fn is_test(file: &str) -> bool {
    file.contains("/tests/") || file.ends_with("/tests.rs") || file.starts_with("integration-tests/")
}

/// The lines before the file's tests, numbered, without comments.
fn product_code(text: &str) -> Vec<(usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}

/// Every `.rs` file outside `target/` and hidden folders.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_outside_its_room_is_named_with_file_and_line() {
        let broken = judge("agent/src/issue.rs", "fn f() {\n    unsafe { g() }\n}\n");
        assert_eq!(broken, ["agent/src/issue.rs:2 has `unsafe`, which belongs to peer"]);
        assert_eq!(judge("server/src/push.rs", "use rcgen::KeyPair;").len(), 1);
        assert_eq!(judge("server/src/push.rs", "db.execute(\"SELECT 1\")").len(), 1);
        assert_eq!(judge("agent/src/callers.rs", "use proto::workload::X;").len(), 1);
    }

    #[test]
    fn a_word_at_home_in_a_comment_or_in_a_test_is_well() {
        assert!(judge("peer/src/pin.rs", "unsafe { g() }").is_empty());
        assert!(judge("server/src/ca/keys.rs", "use rcgen::KeyPair;").is_empty());
        assert!(judge("agent/src/wire.rs", "use proto::workload::X;").is_empty());
        assert!(judge("agent/src/a.rs", "// unsafe { }\n#[cfg(test)]\nmod tests { unsafe { } }").is_empty());
    }

    #[test]
    fn a_file_that_outgrew_its_noun_and_an_ignored_test_are_named() {
        assert_eq!(judge("agent/src/a.rs", &"\n".repeat(501)).len(), 1);
        assert_eq!(judge("agent/src/a.rs", "    #[ignore = \"slow\"]").len(), 1);
    }
}
