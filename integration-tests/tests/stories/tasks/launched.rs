//! `writ run --mandate`: the command's cgroup is the task before the command runs.

use std::io::Read as _;
use std::net::TcpListener;

use integration_tests::{Answer, Running, eventually, needs, test_workload, writ_binary};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::Work;
use crate::SOON;

/// The only task that the server has of this mandate.
fn task_of(work: &Work, mandate: &str) -> Value {
    eventually("the server has the task", SOON, || {
        let all = work.writ.ask(&["task", "list", "--all"]);
        all["tasks"].as_array()?.iter().find(|task| task["mandate"] == mandate).cloned()
    })
}

#[test]
fn a_launched_command_is_a_task_that_ends_with_it() {
    if !needs::root() {
        return;
    }
    let work = Work::up(&[("out", json!({ "export_key": true }))]);
    drop(work.begin("sort"));
    let script = work.folder().join("fetch.sh");
    let fetch = format!("{} fetch {}\n", test_workload().display(), work.writ.workload_socket().display());
    std::fs::write(&script, fetch).expect("the folder is ours");
    let script = script.display().to_string();
    // With a mandate that exports the key its processes have the task's identity, and without one they have none.
    let answer = Answer::of(&mut work.launch("out", &["sh", &script]));
    let task = task_of(&work, "out");
    let id = format!("{}/task/{}", work.writ.id("/agent/sorter"), task["id"].as_str().expect("an id"));
    assert!(answer.out.contains(&id), "{answer:?}");
    assert_eq!(task["isolation"], "cgroup");
    // That the command has ended and that its cgroup is empty is noticed in either order.
    eventually("the task is over", SOON, || (work.task(&task["id"])["state"]["is"] == "ended").then_some(()));
    let answer = Answer::of(&mut work.launch("sort", &["sh", &script]));
    assert!(answer.out.contains("the task's key is not exported"), "{answer:?}");
}

#[test]
fn what_is_launched_from_inside_is_a_child_that_ends_with_its_parent() {
    if !needs::root() {
        return;
    }
    let work = Work::up(&[("below", json!({}))]);
    drop(work.begin("sort"));
    let script = work.folder().join("outer.sh");
    let inner = format!("{} run --mandate below -- sleep 600\n", writ_binary().display());
    std::fs::write(&script, inner).expect("the folder is ours");
    let mut command = work.launch("sort", &["sh", &script.display().to_string()]);
    let outer = Running::start(&mut command, "outer", work.folder());
    let child = task_of(&work, "below");
    let parent = work.task(&child["parent"]);
    assert_eq!((&parent["mandate"], &child["depth"]), (&json!("sort"), &json!(1)));
    let _ = work.writ.run(&["task", "end", parent["id"].as_str().expect("an id"), "--why", "enough"]).done();
    work.ended(&child["id"], "ancestor");
    drop(outer);
}

#[test]
fn connections_of_a_launched_task_end_with_it() {
    if !needs::root() {
        return;
    }
    let work = Work::up(&[]);
    drop(work.begin("sort"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let program = work.folder().join("connects.py");
    let text = format!(
        "import socket, time\nopen_one = socket.create_connection(('127.0.0.1', {port}))\ntime.sleep(600)\n"
    );
    std::fs::write(&program, text).expect("the folder is ours");
    let mut command = work.launch("sort", &["python3", &program.display().to_string()]);
    let running = Running::start(&mut command, "connects", work.folder());
    let (mut connection, _) = listener.accept().expect("it connects");
    connection.set_read_timeout(Some(SOON)).expect("a time");
    let live = eventually("the task", SOON, || {
        let all = work.writ.ask(&["task", "list"]);
        all["tasks"].as_array()?.iter().find(|task| task["isolation"] == "cgroup").cloned()
    });
    let _ = work.writ.run(&["task", "end", live["id"].as_str().expect("an id"), "--why", "enough"]).done();
    assert_eq!(connection.read(&mut [0; 1]).expect("its end, not its time"), 0);
    let _ = kill(Pid::from_raw(running.pid().try_into().expect("a pid")), Signal::SIGKILL);
}

#[test]
fn a_launched_task_outlives_its_agent_and_ends_with_its_last_process() {
    if !needs::root() {
        return;
    }
    let work = Work::up(&[]);
    drop(work.begin("sort"));
    let mut command = work.launch("sort", &["sleep", "611"]);
    let _running = Running::start(&mut command, "sleeps", work.folder());
    let live = eventually("the task", SOON, || {
        let all = work.writ.ask(&["task", "list"]);
        all["tasks"].as_array()?.iter().find(|task| task["isolation"] == "cgroup").cloned()
    });
    // The task begins before its command runs.
    eventually("the command runs", SOON, sleeper);
    work.writ.kill("agent");
    eventually("the agent is back", SOON, || (work.writ.known()? > 0).then_some(()));
    assert_eq!(work.task(&live["id"])["state"]["is"], "active");
    // Nobody is there any more who would hand a signal on.
    let sleeper = sleeper().expect("the command outlived the agent");
    kill(Pid::from_raw(sleeper), Signal::SIGTERM).expect("it is there");
    work.ended(&live["id"], "domain_dead");
}

/// The one process that sleeps for so long.
fn sleeper() -> Option<i32> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // `writ run` itself has more words.
        line.ends_with(b"sleep\x00611\x00") && line.iter().filter(|byte| **byte == 0).count() == 2
    })
}
