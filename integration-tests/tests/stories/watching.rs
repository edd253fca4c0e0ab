//! A stream ends when its process is no longer what it was, without anybody asking anything.

use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::{fs, thread, time::Duration};

use integration_tests::{Folder, Running, Writ, eventually, test_workload};

use crate::{SOON, own_uid};

#[test]
fn an_open_stream_ends_when_its_process_executes_even_the_same_file() {
    let writ = Writ::up();
    let watching = &writ.run(&["status", "--output", "json"]).json()["agent"]["watching"];
    assert_eq!(watching["exec_and_ids"], "kernel event", "{watching}");
    writ.entry("/honest", &[&own_uid()]);
    let folder = Folder::new();
    for (n, program) in [test_workload(), folder.copy(&test_workload(), "other")].iter().enumerate() {
        let mut turn = Command::new(test_workload());
        turn.arg("turn").arg(writ.workload_socket()).arg(program);
        let turned = Running::start(&mut turn, &format!("turned-{n}"), folder.path());
        turned.json("an identity", SOON, |line| line["ids"][0] == writ.id("/honest"));
        let end = turned.json("the end of the connection", SOON * 6, |line| line["closed"] == true);
        assert_eq!(end["svid"], false, "the other program was served: {end}");
    }
}

#[test]
fn an_open_stream_ends_when_its_process_is_moved_to_another_cgroup() {
    let writ = Writ::up();
    let watching = &writ.run(&["status", "--output", "json"]).json()["agent"]["watching"];
    assert_eq!(watching["cgroup_moves"], "kernel event", "{watching}");
    moved(&writ);
}

#[test]
fn without_the_rights_to_hear_of_moves_the_agent_says_so_and_looks_every_second() {
    let writ = Writ::up_below(&["setpriv", "--bounding-set=-sys_admin,-net_admin"], &[]);
    let status = writ.run(&["status", "--output", "json"]).json();
    let way = status["agent"]["watching"]["cgroup_moves"].as_str().expect("a way");
    assert!(way.contains("once a second") && way.contains("CAP_SYS_ADMIN"), "{way}");
    moved(&writ);
}

#[test]
fn path_and_hash_are_the_kernels_word_for_a_program_that_the_agent_saw_executed() {
    let writ = Writ::up();
    writ.entry("/honest", &[&own_uid()]);
    let folder = Folder::new();
    // On a machine so busy that the kernel's records are lost less is known, so a later program may do.
    let strengths = || {
        let mut watch = Command::new(test_workload());
        watch.arg("watch").arg(writ.workload_socket());
        let watching = Running::start(&mut watch, "explained", folder.path());
        watching.json("an identity", SOON, |line| line["ids"][0] == writ.id("/honest"));
        let explained = writ.ask(&["explain", "--pid", &watching.pid().to_string()]);
        let of = |name: &str| {
            let mut facts = explained["selectors"].as_array().into_iter().flatten();
            facts.find(|fact| fact["selector"].as_str().is_some_and(|text| text.starts_with(name))).cloned()
        };
        let both = [of("unix:path:")?, of("unix:sha256:")?];
        both.iter().all(|fact| fact["strength"] == "kernel").then_some(())
    };
    eventually("the kernel's word for both", SOON * 6, strengths);
}

fn moved(writ: &Writ) {
    writ.entry("/honest", &[&own_uid()]);
    let folder = Folder::new();
    let mut watch = Command::new(test_workload());
    watch.arg("watch").arg(writ.workload_socket());
    let watching = Running::start(&mut watch, "watching", folder.path());
    watching.json("an identity", SOON, |line| line["ids"][0] == writ.id("/honest"));
    let cgroup = Cgroup::new();
    cgroup.take(watching.pid());
    watching.json("the end of the stream", SOON * 6, |line| line["code"].is_string());
    drop(watching);
}

/// A cgroup of this story in the unified hierarchy, removed with it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts can be listed");
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let unified = mounts.find(|mount| mount[2] == "cgroup2").expect("the unified hierarchy is mounted");
        let name = format!("writ-story-{}-{:?}", id(), thread::current().id());
        let cgroup = Path::new(unified[1]).join(name.replace(['(', ')'], "-"));
        fs::create_dir(&cgroup).expect("root may make cgroups");
        Self(cgroup)
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("root may move processes");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !thread::panicking() {
            let removed = || fs::remove_dir(&self.0).is_ok().then_some(());
            eventually("the cgroup is empty and goes", Duration::from_secs(30), removed);
        }
    }
}
