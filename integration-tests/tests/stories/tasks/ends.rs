//! What ends a task: each of it takes effect here before anybody else hears of it.

use integration_tests::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Work;
use crate::SOON;

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().expect("a pid")), signal).expect("it is ours");
}

#[test]
fn a_task_ends_with_its_process() {
    let work = Work::up(&[]);
    let (held, begun) = work.begin("sort");
    signal(held.pid(), Signal::SIGKILL);
    work.ended(&begun["id"], "domain_dead");
}

#[test]
fn a_task_ends_when_its_process_says_so() {
    let work = Work::up(&[]);
    let (held, begun) = work.begin("sort");
    signal(held.pid(), Signal::SIGTERM);
    work.ended(&begun["id"], "done");
}

#[test]
fn a_task_ends_with_its_time() {
    let work = Work::up(&[]);
    let (held, begun) = work.begin_with("sort", &["--ttl", "2s"]);
    work.ended(&begun["id"], "ttl");
    assert_eq!(held.line_unless_it_ends(SOON), None, "whoever held it has heard");
}

#[test]
fn an_administrator_ends_a_task() {
    let work = Work::up(&[]);
    let (held, begun) = work.begin("sort");
    let id = begun["id"].as_str().expect("an id");
    let _ = work.writ.run(&["task", "end", id, "--why", "wrong queue"]).done();
    assert_eq!(held.line_unless_it_ends(SOON), None, "its process has heard");
    assert!(held.log().contains("administrator"), "{}", held.log());
}

#[test]
fn a_task_ends_when_its_processes_are_not_the_actors_any_more() {
    let work = Work::up(&[]);
    let (_held, begun) = work.begin("sort");
    let entries = work.writ.ask(&["entry", "list"]);
    let entry = entries["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| entry["spiffe_id"].as_str().is_some_and(|id| id.ends_with("/agent/sorter")));
    work.writ.delete(entry.expect("it is there")["id"].as_str().expect("an id"));
    work.ended(&begun["id"], "measurement_changed");
}

#[test]
fn a_task_outlives_its_agent_where_the_process_is_the_same_and_a_dead_one_does_not() {
    let work = Work::up(&[]);
    let (one, kept) = work.begin("sort");
    let (other, lost) = work.begin("sort");
    // The first process is stopped, so that it does not notice that the agent is gone.
    signal(one.pid(), Signal::SIGSTOP);
    signal(other.pid(), Signal::SIGSTOP);
    work.writ.kill("agent");
    signal(other.pid(), Signal::SIGKILL);
    work.ended(&lost["id"], "agent_restarted");
    assert_eq!(work.task(&kept["id"])["state"]["is"], "active");
    signal(one.pid(), Signal::SIGKILL);
    work.ended(&kept["id"], "domain_dead");
}

#[test]
fn a_task_of_which_nobody_knows_what_it_had_spent_waits_for_an_administrator() {
    let work = Work::up(&[]);
    let (held, begun) = work.begin("sort");
    let standings = work.writ.data().join("state/agent/authorize/standings.json");
    eventually("the agent keeps what tasks have spent", SOON, || standings.exists().then_some(()));
    // The process is stopped, so that it does not notice that the agent is gone.
    signal(held.pid(), Signal::SIGSTOP);
    work.writ.signal("agent", Signal::SIGSTOP);
    std::fs::write(&standings, "{").expect("it is ours");
    work.writ.kill("agent");
    let state = eventually("it is suspended", SOON, || {
        let state = work.task(&begun["id"])["state"].clone();
        (state["is"] == "suspended").then_some(state)
    });
    assert_eq!(state["reason"], "agent_restarted");
    let id = begun["id"].as_str().expect("an id");
    let _ = work.writ.run(&["task", "resume", id, "--why", "it had read nothing"]).done();
    assert_eq!(work.task(&begun["id"])["state"]["is"], "active");
    signal(held.pid(), Signal::SIGKILL);
    work.ended(&begun["id"], "domain_dead");
}

#[test]
fn an_end_reaches_a_server_that_was_away() {
    let work = Work::up(&[]);
    let (held, begun) = work.begin("sort");
    work.writ.signal("server", Signal::SIGSTOP);
    signal(held.pid(), Signal::SIGKILL);
    let record = work.writ.data().join("state/agent/tasks/live").join(begun["id"].as_str().expect("an id"));
    eventually("the agent has ended it and keeps that", SOON, || {
        std::fs::read_to_string(&record).ok()?.contains("domain_dead").then_some(())
    });
    work.writ.signal("server", Signal::SIGCONT);
    work.ended(&begun["id"], "domain_dead");
}

#[test]
fn a_withdrawn_mandate_ends_what_runs_under_it() {
    let work = Work::up(&[("other", json!({}))]);
    let (held, begun) = work.begin("other");
    let _ = work.writ.run(&["mandate", "withdraw", "other"]).done();
    work.ended(&begun["id"], "mandate_withdrawn");
    assert_eq!(held.line_unless_it_ends(SOON), None);
    eventually("nothing begins under it", SOON, || {
        let again = work.writ.run(&["task", "begin", "--mandate", "other"]);
        (again.code == 1).then_some(())
    });
}
