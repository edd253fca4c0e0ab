//! What the attestors that SPIRE lacks say of real processes: `process`, `cgroup` and `binary`.

mod harness;

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use attestors::{Strength, WorkloadAttestors};
use harness::{Cgroup, Running, as_root, assert_strength, attest, directory, program, values};
use peer::Peer;

const LINEAGE: &[&str] = &["process:parent:/any", "process:ancestor:/any", "process:tty:any"];

#[tokio::test]
async fn a_process_is_told_by_what_started_it_and_weakly() {
    let directory = directory();
    let launcher = program_from_shell(directory.path());
    // The shell waits for its child, so it stays the parent.
    let mut command = Command::new(&launcher);
    command.args(["-c", "cat; exit 0"]);
    let process = Running::command(&mut command);
    let evidence = attest(&WorkloadAttestors::builtin(), &process.child_peer(), LINEAGE).await;
    assert_eq!(values(&evidence, "process:parent"), [launcher.display().to_string()]);
    let ancestors = values(&evidence, "process:ancestor");
    let own = std::env::current_exe().expect("it runs").display().to_string();
    assert!(ancestors.contains(&launcher.display().to_string()) && ancestors.contains(&own), "{ancestors:?}");
    assert_strength(&evidence, "process:parent", Strength::Weak);
    let parent_only = attest(&WorkloadAttestors::builtin(), &process.child_peer(), &LINEAGE[..1]).await;
    assert!(values(&parent_only, "process:ancestor").is_empty());
    assert_eq!(values(&parent_only, "process:parent").len(), 1);
}

#[tokio::test]
async fn an_ancestor_whose_file_was_deleted_before_it_was_seen_has_no_path() {
    let directory = directory();
    let launcher = program_from_shell(directory.path());
    let mut command = Command::new(&launcher);
    command.args(["-c", "cat; exit 0"]);
    let process = Running::command(&mut command);
    fs::remove_file(&launcher).expect("it is ours");
    let evidence = attest(&WorkloadAttestors::builtin(), &process.child_peer(), LINEAGE).await;
    assert!(values(&evidence, "process:parent").is_empty());
    assert!(evidence.notes.iter().any(|note| note.contains("has no path")), "{:?}", evidence.notes);
}

#[tokio::test]
async fn a_process_without_a_terminal_says_so_and_one_with_a_terminal_of_which_kind() {
    let mut detached = Command::new("setsid");
    let process = Running::command(detached.arg("cat"));
    // setsid forks only if it leads a process group, and here it does not.
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), LINEAGE).await;
    assert_eq!(values(&evidence, "process:tty"), ["none"]);
    // script(1) gives what it runs a pseudo terminal. Without echo, only cat can answer, and by then the
    // shell that started it is there.
    let mut attached = Command::new("script");
    attached.args(["--quiet", "--echo", "never", "--command", "cat; exit 0", "/dev/null"]);
    let process = Running::command(&mut attached);
    let evidence = attest(&WorkloadAttestors::builtin(), &process.child_peer(), LINEAGE).await;
    assert_eq!(values(&evidence, "process:tty"), ["pts"]);
}

#[tokio::test]
async fn parents_are_held_up_to_the_first_process() {
    let process = Running::program(Path::new("/bin/cat"));
    let parent = process.peer().parent().expect("readable").expect("this process");
    assert_eq!(parent.pid(), std::process::id());
    let first = Peer::open(1);
    if let Ok(first) = first {
        assert!(matches!(first.parent(), Ok(None)), "nobody is before the first");
    }
}

#[tokio::test]
async fn a_cgroup_has_a_path_and_a_number_that_its_directory_has() {
    if !as_root("a_cgroup_has_a_path_and_a_number_that_its_directory_has") {
        return;
    }
    let process = Running::program(Path::new("/bin/cat"));
    let cgroup = Cgroup::new("writ-place");
    cgroup.take(process.peer().pid());
    let asked = ["cgroup:path:/any", "cgroup:id:1", "cgroup:v1:memory:/any"];
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), &asked).await;
    assert_eq!(values(&evidence, "cgroup:path"), [cgroup.name()]);
    let number = fs::metadata(cgroup.directory()).expect("it is there").ino();
    assert_eq!(values(&evidence, "cgroup:id"), [number.to_string()]);
    assert_strength(&evidence, "cgroup:id", Strength::Kernel);
    let text = fs::read_to_string(format!("/proc/{}/cgroup", process.peer().pid())).expect("readable");
    for line in text.lines().filter(|line| !line.starts_with("0::")) {
        let (controllers, path) =
            line.split_once(':').and_then(|(_, rest)| rest.split_once(':')).expect("a line");
        for controller in controllers.split(',') {
            let value = format!("{controller}:{path}");
            assert!(values(&evidence, "cgroup:v1").contains(&value), "{value}");
        }
    }
    drop(process);
}

#[tokio::test]
async fn a_build_id_is_that_of_the_file_that_runs_and_weak() {
    let directory = directory();
    let program = program(directory.path(), "triage");
    let process = Running::program(&program);
    let asked = ["binary:build_id:ab", "unix:sha256:any"];
    let all = WorkloadAttestors::builtin();
    let evidence = attest(&all, &process.peer(), &asked).await;
    assert_eq!(values(&evidence, "binary:build_id"), [build_id(&program)]);
    assert_strength(&evidence, "binary:build_id", Strength::Weak);
    // A process that was seen before its file was replaced keeps what was true of it.
    fs::remove_file(&program).expect("it is ours");
    fs::write(&program, "another").expect("it is ours");
    let again = attest(&all, &process.peer(), &asked).await;
    assert_eq!(values(&again, "binary:build_id"), values(&evidence, "binary:build_id"));
    assert_eq!(values(&again, "unix:sha256"), values(&evidence, "unix:sha256"));
    // Another agent never saw it whole.
    let late = attest(&WorkloadAttestors::builtin(), &process.peer(), &asked).await;
    assert!(values(&late, "binary:build_id").is_empty() && values(&late, "unix:sha256").is_empty());
}

#[tokio::test]
async fn a_file_without_a_build_id_has_none_and_that_is_told() {
    let directory = directory();
    let source = "#include <stdio.h>\nint main() { char line[100]; \
                  while (fgets(line, 100, stdin)) { fputs(line, stdout); fflush(stdout); } return 0; }\n";
    let file = directory.path().join("plain.c");
    fs::write(&file, source).expect("written");
    let program = directory.path().join("plain");
    let compiled = Command::new("cc").args(["-Wl,--build-id=none", "-o"]).arg(&program).arg(&file).status();
    assert!(compiled.expect("a C compiler named cc is installed").success());
    let process = Running::program(&program);
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), &["binary:build_id:ab"]).await;
    assert!(values(&evidence, "binary:build_id").is_empty());
    assert!(
        evidence.notes.iter().any(|note| note.contains("its executable has none")),
        "{:?}",
        evidence.notes
    );
}

/// As readelf shows it.
fn build_id(program: &Path) -> String {
    let shown = Command::new("readelf").arg("-n").arg(program).output().expect("binutils are installed");
    let shown = String::from_utf8(shown.stdout).expect("text");
    let id = shown.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    id.expect("it has one").to_owned()
}

fn program_from_shell(directory: &Path) -> std::path::PathBuf {
    harness::program_from("/bin/sh", directory, "launcher")
}
