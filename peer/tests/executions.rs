//! What a process executed is known from the kernel's records, whatever its link shows.

mod harness;

use std::{fs, os::unix::fs::PermissionsExt, process::Command, sync::Arc};

use harness::{Puppet, as_root, copy_of_puppet, inside, open_directory, puppet};
use peer::{Execution, Executions, Peer};

#[test]
fn a_program_that_was_executed_while_somebody_looked_is_seen() {
    if !as_root("a_program_that_was_executed_while_somebody_looked_is_seen") {
        return;
    }
    let directory = open_directory();
    let other = copy_of_puppet(&directory.path().join("other"));
    each_judged(|executions| {
        let mut direct = Puppet::start();
        let first = judge(executions, &direct);
        direct.exec(&other);
        let second = judge(executions, &direct);
        vec![first, second]
    });
}

#[test]
fn the_interpreter_of_a_script_is_what_was_executed() {
    if !as_root("the_interpreter_of_a_script_is_what_was_executed") {
        return;
    }
    let directory = open_directory();
    let script = directory.path().join("script");
    // Not by this process, whose children would inherit the file while it is written.
    let write = format!("printf '#!{}\\n' > {}", puppet().display(), script.display());
    assert!(Command::new("sh").args(["-c", &write]).status().expect("sh starts").success());
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
    each_judged(|executions| vec![judge(executions, &Puppet::run(&mut Command::new(&script)))]);
}

#[test]
fn a_thread_that_executes_does_so_for_its_process() {
    if !as_root("a_thread_that_executes_does_so_for_its_process") {
        return;
    }
    let directory = open_directory();
    let other = copy_of_puppet(&directory.path().join("other"));
    each_judged(|executions| {
        let mut headless = Puppet::run(Command::new(puppet()).arg("without-leader"));
        headless.exec(&other);
        vec![judge(executions, &headless)]
    });
}

#[test]
fn a_program_that_was_opened_and_could_not_be_executed_was_not_executed() {
    if !as_root("a_program_that_was_opened_and_could_not_be_executed_was_not_executed") {
        return;
    }
    each_judged(|executions| {
        let mut tries = Puppet::start();
        tries.order("fail-to-exec /bin/true");
        vec![judge(executions, &tries)]
    });
}

#[test]
fn of_a_process_that_was_there_before_nothing_is_known() {
    if !as_root("of_a_process_that_was_there_before_nothing_is_known") {
        return;
    }
    let mut early = Puppet::start();
    let executions = Executions::open().expect("root has the records");
    assert_eq!(judge(&executions, &early), Execution::NotSeen);
    let directory = open_directory();
    early.exec(&copy_of_puppet(&directory.path().join("other")));
    assert_ne!(judge(&executions, &early), Execution::Another);
}

#[test]
fn without_rights_it_says_what_is_missing() {
    const NAME: &str = "without_rights_it_says_what_is_missing";
    let below = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];
    if !as_root(NAME) || !inside(NAME, &below) {
        return;
    }
    let refused = Executions::open().map(drop);
    assert!(refused.as_ref().is_err_and(|why| why.contains("CAP_PERFMON")), "{refused:?}");
}

fn judge(executions: &Executions, puppet: &Puppet) -> Execution {
    let peer = Peer::open(puppet.pid()).expect("held");
    let file = peer.open_exe().expect("it runs something");
    executions.of(&peer, &file).expect("it can be told")
}

/// All of what `judged` looks at was seen. On a machine that is so busy that records are lost, less is known
/// and nothing is told wrongly; then it is tried again.
fn each_judged(judged: impl Fn(&Arc<Executions>) -> Vec<Execution>) {
    let executions = Executions::open().expect("root has the records");
    for _ in 0..ATTEMPTS {
        let before = executions.lost();
        let all = judged(&executions);
        assert!(!all.contains(&Execution::Another), "{all:?}");
        if executions.lost() == before {
            assert!(all.iter().all(|one| *one == Execution::Seen), "{all:?}");
            return;
        }
    }
    panic!("the kernel's records were lost {ATTEMPTS} times");
}

const ATTEMPTS: usize = 100;
