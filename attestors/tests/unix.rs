//! What the `unix` attestor says of real processes.

mod harness;

use std::{
    fs,
    io::Write,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::Path,
    process::Command,
};

use attestors::{Strength, Wanted, WorkloadAttestors};
use harness::{
    BOTH, Running, assert_nameless, assert_strength, attest, compile, directory, program, program_from,
    sha256, values, wanted,
};
use nix::{sys::memfd, unistd};
use peer::Changed;

#[tokio::test]
async fn uid_and_gid_are_free_and_nothing_else_is_read_unless_an_entry_asks() {
    let process = Running::program(Path::new("/bin/cat"));
    let evidence =
        attest(&WorkloadAttestors::builtin(), &process.peer(), &["k8s:ns:any", "unix:uid:7"]).await;
    let found: Vec<&str> = evidence.selectors().map(|selector| selector.as_str()).collect();
    let (uid, gid) = (unistd::geteuid(), unistd::getegid());
    assert_eq!(found, [format!("unix:uid:{uid}"), format!("unix:gid:{gid}")]);
    assert_strength(&evidence, "unix:uid", Strength::Kernel);
    assert!(evidence.notes.is_empty() && !evidence.incomplete);
}

#[tokio::test]
async fn names_are_those_of_this_host() {
    let process = Running::program(Path::new("/bin/cat"));
    let asked =
        ["unix:user:any", "unix:group:any", "unix:supplementary_gid:1", "unix:supplementary_group:any"];
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), &asked).await;
    assert_eq!(values(&evidence, "unix:user"), [say("-un")]);
    assert_eq!(values(&evidence, "unix:group"), [say("-gn")]);
    let status = fs::read_to_string("/proc/self/status").expect("readable");
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).expect("a line");
    let groups: Vec<&str> = groups.split_whitespace().collect();
    assert_eq!(values(&evidence, "unix:supplementary_gid"), groups);
    assert_eq!(values(&evidence, "unix:supplementary_group").len(), groups.len());
    assert!(values(&evidence, "unix:path").is_empty());
}

#[tokio::test]
async fn path_and_hash_are_those_of_the_executable_and_weak() {
    let directory = directory();
    let program = program(directory.path(), "triage");
    let process = Running::program(&program);
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await;
    assert_eq!(values(&evidence, "unix:path"), [program.display().to_string()]);
    assert_eq!(values(&evidence, "unix:sha256"), [sha256(&program)]);
    assert_strength(&evidence, "unix:path", Strength::Weak);
    assert_strength(&evidence, "unix:sha256", Strength::Weak);
    let only_path = attest(&WorkloadAttestors::builtin(), &process.peer(), &["unix:path:/any"]).await;
    assert!(values(&only_path, "unix:sha256").is_empty());
    let only_hash = attest(&WorkloadAttestors::builtin(), &process.peer(), &["unix:sha256:any"]).await;
    assert!(values(&only_hash, "unix:path").is_empty());
}

#[tokio::test]
async fn a_file_replaced_under_a_living_process_stays_confirmed_for_it_and_for_no_other() {
    let all = WorkloadAttestors::builtin();
    let directory = directory();
    let path = program(directory.path(), "service");
    let (old, hash) = (Running::program(&path), sha256(&path));
    let unseen = Running::program(&path);
    attest(&all, &old.peer(), BOTH).await;
    let upgrade = program(directory.path(), "upgrade");
    fs::rename(&upgrade, &path).expect("replaced");
    let confirmed = attest(&all, &old.peer(), BOTH).await;
    assert_eq!(values(&confirmed, "unix:path"), [path.display().to_string()]);
    assert_eq!(values(&confirmed, "unix:sha256"), [hash]);
    assert_nameless(&attest(&all, &unseen.peer(), BOTH).await, "deleted or replaced");
    let new = Running::program(&path);
    let fresh = attest(&all, &new.peer(), BOTH).await;
    assert_eq!(values(&fresh, "unix:path"), [path.display().to_string()]);
    assert_eq!(values(&fresh, "unix:sha256"), [sha256(&path)]);
}

#[tokio::test]
async fn what_was_confirmed_of_a_program_is_not_kept_for_the_next_one_of_the_same_process() {
    let all = WorkloadAttestors::builtin();
    let directory = directory();
    let second = program(directory.path(), "second");
    let first = program_from("/bin/sh", directory.path(), "first"); // a shell, to become the second
    let script = format!("read line; echo $line; read line; echo $line; exec {}", second.display());
    let mut process = Running::command(Command::new(&first).args(["-c", &script]));
    let peer = process.peer();
    let before = attest(&all, &peer, BOTH).await;
    assert_eq!(values(&before, "unix:path"), [first.display().to_string()]);
    process.become_the_next();
    fs::remove_file(&second).expect("removed before it was seen");
    assert!(matches!(all.attest(&peer, &wanted(BOTH)).await, Err(Changed::Image { .. })));
    assert_nameless(&attest(&all, &process.peer(), BOTH).await, "deleted or replaced");
}

#[tokio::test]
async fn a_deleted_executable_gives_neither_path_nor_hash() {
    let directory = directory();
    let program = program(directory.path(), "gone");
    let process = Running::program(&program);
    fs::remove_file(&program).expect("deleted");
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await;
    assert_nameless(&evidence, "deleted or replaced");
    assert!(!evidence.incomplete, "asking again will not help");
    program_from("/bin/cat", directory.path(), "gone (deleted)");
    assert_nameless(&attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await, "deleted");
}

#[tokio::test]
async fn a_deleted_name_is_not_made_good_by_another_name_of_the_file() {
    let directory = directory();
    let program = program(directory.path(), "gone");
    fs::hard_link(&program, directory.path().join("other")).expect("another name");
    let process = Running::program(&program);
    fs::remove_file(&program).expect("deleted");
    assert_nameless(&attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await, "deleted");
}

#[tokio::test]
async fn an_executable_that_never_had_a_name_gives_neither_path_nor_hash() {
    let file = memfd::memfd_create(c"cat", memfd::MFdFlags::empty()).expect("a memfd");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::File::from(file.try_clone().expect("cloned"))
        .write_all(&fs::read("/bin/cat").expect("readable"))
        .expect("written");
    let process = Running::command(Command::new(&path).arg0("cat"));
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await;
    assert_nameless(&evidence, "never had a name");
}

#[tokio::test]
async fn a_hash_of_a_growing_number_of_names_for_one_file_is_one() {
    let all = WorkloadAttestors::builtin();
    let directory = directory();
    let program = program(directory.path(), "one");
    let other = directory.path().join("other");
    fs::hard_link(&program, &other).expect("a second name");
    let (one, two) = (Running::program(&program), Running::program(&other));
    let (one, two) = (attest(&all, &one.peer(), BOTH).await, attest(&all, &two.peer(), BOTH).await);
    assert_eq!(values(&one, "unix:sha256"), values(&two, "unix:sha256"));
    assert_eq!(values(&two, "unix:path"), [other.display().to_string()]);
}

#[tokio::test]
async fn a_path_with_a_line_feed_makes_no_selector() {
    let directory = directory();
    let program = program(directory.path(), "evil\nunix:uid:0");
    let process = Running::program(&program);
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await;
    assert!(values(&evidence, "unix:path").is_empty());
    assert!(evidence.notes.iter().any(|note| note.contains("control character")), "{:?}", evidence.notes);
    assert_eq!(values(&evidence, "unix:sha256").len(), 1, "the file itself is as good as any");
}

#[tokio::test]
async fn a_traced_process_has_neither_path_nor_hash_but_is_still_its_user() {
    let directory = directory();
    let program = compile(directory.path(), "traced", TRACED);
    let mut parent = Command::new(&program);
    let process = Running::command(&mut parent);
    let evidence = attest(&WorkloadAttestors::builtin(), &process.child_peer(), BOTH).await;
    assert_nameless(&evidence, "traces it");
    assert_eq!(values(&evidence, "unix:uid"), [unistd::geteuid().to_string()]);
    let parent = attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await;
    assert_eq!(values(&parent, "unix:path").len(), 1, "the tracer itself is not traced");
}

#[tokio::test]
async fn a_dead_process_gives_nothing() {
    let all = WorkloadAttestors::builtin();
    let mut process = Running::program(Path::new("/bin/cat"));
    let peer = process.peer();
    process.kill();
    let refused = all.attest(&peer, &Wanted::everything()).await;
    assert!(matches!(refused, Err(Changed::Exited { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_thousand_at_once_get_the_same_answer() {
    let all = WorkloadAttestors::builtin();
    let directory = directory();
    let process = Running::program(&program(directory.path(), "busy"));
    let peer = process.peer();
    let wanted = Wanted::everything();
    let answers = futures::future::join_all((0..1000).map(|_| all.attest(&peer, &wanted))).await;
    let first = answers[0].as_ref().expect("evidence");
    assert_eq!(values(first, "unix:path").len(), 1);
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer == first)));
}

fn say(option: &str) -> String {
    let output = Command::new("id").arg(option).output().expect("id is installed");
    String::from_utf8(output.stdout).expect("a name").trim().to_owned()
}

/// Its child lets it trace, then both wait; the parent answers lines for both.
const TRACED: &str = r#"
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
    int ready[2];
    char line[256];
    if (pipe(ready)) return 1;
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, 9);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        if (write(ready[1], "x", 1) != 1) return 1;
        for (;;) pause();
    }
    if (read(ready[0], line, 1) != 1) return 1;
    while (fgets(line, sizeof line, stdin)) { fputs(line, stdout); fflush(stdout); }
    return 0;
}
"#;
