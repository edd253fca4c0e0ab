//! What the documents say to type works, and what they show as configuration loads.
//!
//! A code block whose first line is three backticks and `sh test` is run by bash in an empty folder,
//! after the blocks before it in the same document; `writ` is on PATH, and whatever the document starts
//! ends with it. A block `toml server`, `toml agent` or `toml gate`, and each file of that name, must load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::{Answer, Folder, writ_binary, writ_command};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies below the root")
}

#[test]
fn the_readme_names_the_two_commands() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README");
    for command in ["cargo run --release -- demo", "cargo xtask test"] {
        assert!(readme.contains(command), "README.md does not say `{command}`");
    }
}

#[test]
fn every_command_marked_for_test_works() {
    for document in documents() {
        let script: Vec<_> = blocks(&document, "sh test");
        if script.is_empty() {
            continue;
        }
        let folder = Folder::new();
        let path = format!(
            "{}:{}",
            writ_binary().parent().expect("it lies in a folder").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        // Background jobs of the document end with it.
        let script = format!(
            "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{}",
            script.join("\n")
        );
        let mut command = Command::new("timeout");
        command
            .args(["100", "bash", "-c", &script])
            .current_dir(folder.path())
            .env("PATH", path)
            .env("HOME", folder.path());
        command.env_remove("WRIT_DATA").env_remove("SPIFFE_ENDPOINT_SOCKET").env_remove("XDG_DATA_HOME");
        let answer = Answer::of(&mut command);
        assert_eq!(answer.code, 0, "{}:\n{}\n{}", document.display(), answer.out, answer.err);
    }
}

#[test]
fn every_example_configuration_loads() {
    let folder = Folder::new();
    let mut loaded = 0;
    for (role, verb) in [("server", "server"), ("agent", "agent"), ("gate", "mcp")] {
        let mut files = files_below(&root().join("docs"), &format!("{role}.toml"));
        files.extend(files_below(&root().join("examples"), &format!("{role}.toml")));
        for (number, document) in documents().into_iter().enumerate() {
            for (place, block) in blocks(&document, &format!("toml {role}")).into_iter().enumerate() {
                files.push(folder.write(&format!("{role}-{number}-{place}.toml"), block));
            }
        }
        for file in files {
            let answer = Answer::of(writ_command().args([verb, "check-config"]).arg(&file));
            assert_eq!(answer.code, 0, "{}: {}", file.display(), answer.err);
            loaded += 1;
        }
    }
    assert!(loaded >= 3, "only {loaded} example configurations were found");
}

#[test]
fn an_unknown_key_in_a_configuration_is_an_error_that_names_it() {
    let folder = Folder::new();
    for role in ["server", "agent", "mcp"] {
        let file = folder.write("odd.toml", "sevrer = \"127.0.0.1:1\"\n");
        let refusal = Answer::of(writ_command().args([role, "check-config"]).arg(file));
        assert_ne!(refusal.code, 0);
        assert!(refusal.err.contains("unknown field `sevrer`"), "{role}: {}", refusal.err);
        assert_eq!(refusal.err.matches("sevrer").count(), 1, "{role} says it once: {}", refusal.err);
    }
}

#[test]
fn every_test_that_a_page_names_is_where_it_says() {
    let mut named = 0;
    for page in ["attacks.md", "authority-attacks.md", "faults.md", "flaws.md"] {
        let path = root().join("docs").join(page);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault |")) {
            let tests: Vec<_> = row
                .split("[`")
                .skip(1)
                .filter_map(|link| link.split_once(')')?.0.split_once("`]("))
                .collect();
            let tests: Vec<_> = tests.into_iter().filter(|(_, file)| file.ends_with(".rs")).collect();
            let honest = !tests.is_empty()
                || row.ends_with("| – |")
                || row.contains("| published |")
                || row.starts_with("| attack |");
            assert!(honest, "{page}: a row names no test: {row}");
            for (test, file) in tests {
                let source = fs::read_to_string(root().join("docs").join(file)).unwrap_or_default();
                assert!(
                    source.contains(&format!("fn {test}(")),
                    "{page} names {test}, which is not in {file}"
                );
                named += 1;
            }
        }
    }
    assert!(named > 40, "only {named} tests are named");
}

/// README and everything below `docs/`.
fn documents() -> Vec<PathBuf> {
    let mut all = vec![root().join("README.md")];
    all.extend(files_below(&root().join("docs"), ".md"));
    all.extend(files_below(&root().join("examples"), ".md"));
    all
}

fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The contents of the code blocks of one kind.
fn blocks(document: &Path, kind: &str) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap_or_else(|error| panic!("{}: {error}", document.display()));
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{kind}") {
            blocks
                .push(lines.by_ref().take_while(|line| line.trim() != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    blocks
}
