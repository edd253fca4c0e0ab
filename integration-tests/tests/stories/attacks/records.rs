//! What can be had by making the kernel lose its records of what was executed.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use integration_tests::attacker::{Attacker, Verdict, attacker};
use integration_tests::daemon::{Agent, Server};
use integration_tests::{Folder, eventually, needs};
use nix::sys::signal::Signal;

use super::limits::is_told;
use super::{ATTACKER, Stage, put, rounds};

/// On a loaded machine.
const SYNCED: Duration = Duration::from_secs(60);

/// Nobody reads the records while they come, so some are lost for certain.
#[test]
fn a_forged_exe_link_gets_nothing_in_20_floods_of_the_kernels_records() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let count = |name| {
        let watching = &stage.writ.run(&["status", "--output", "json"]).json()["agent"]["watching"];
        watching[name].as_u64().unwrap_or_else(|| panic!("the exec is not seen: {watching}"))
    };
    let (mut early, mut flood) = (stage.start(ATTACKER, &stage.good), stage.intruder());
    assert_eq!(early.tries(&stage.socket()), stage.program());
    for round in 0..rounds(20) {
        let before = [count("executions_lost"), count("executions_unclear")];
        stage.writ.signal("agent", Signal::SIGSTOP);
        let mut forger = stage.intruder();
        forger.does(&format!("forge {}", stage.good.display()));
        assert_eq!(flood.order("flood 100000"), "mapped 100000");
        stage.writ.signal("agent", Signal::SIGCONT);
        let verdict = forger.tries(&stage.socket());
        assert!(!verdict.is_held(), "round {round}: {verdict:?}");
        let after = [count("executions_lost"), count("executions_unclear")];
        assert!(after[0] > before[0] && after[1] > before[1], "round {round}: {before:?}, {after:?}");
        let pid = forger.pid().to_string();
        let seen = stage.writ.run(&["explain", "--pid", &pid, "--output", "json"]).json();
        assert!(seen["notes"].to_string().contains("it is not clear what it executed"), "{seen}");
    }
    assert_eq!(early.tries(&stage.socket()), stage.program(), "it executed nothing meanwhile");
    let mut late = stage.start(ATTACKER, &stage.good);
    assert_eq!(late.tries(&stage.socket()), stage.program(), "what is executed later is seen");
}

#[test]
fn after_a_loss_of_records_a_switch_makes_weak_what_is_refused_without_it_and_the_documents_say_so() {
    if !needs::root() {
        return;
    }
    let mut scene = Scene::set("insecure_after_loss = true");
    let mut flood = scene.start("evil");
    scene.agent.signal(Signal::SIGSTOP);
    let mut forger = scene.start("evil");
    forger.does(&format!("forge {}", scene.folder.join("good").display()));
    assert_eq!(flood.order("flood 100000"), "mapped 100000");
    scene.agent.signal(Signal::SIGCONT);
    assert_eq!(scene.asks(&mut forger), scene.held());
    let pid = forger.pid().to_string();
    let seen = scene.agent.run(&["explain", "--pid", &pid, "--output", "json"]).json();
    let facts = seen["selectors"].as_array().expect("what is known of it");
    let path = facts.iter().find(|fact| fact["selector"].to_string().contains("unix:path:"));
    assert_eq!(path.map(|fact| &fact["strength"]), Some(&"weak".into()), "{seen}");
    let status = scene.agent.run(&["status", "--output", "json"]).json();
    assert!(status["agent"]["insecure"].to_string().contains("insecure_after_loss"), "{status}");
    is_told("can make the kernel lose its records of what was executed");
}

#[test]
fn where_weak_facts_are_refused_only_who_executed_something_before_the_agents_eyes_has_a_path() {
    if !needs::root() {
        return;
    }
    let mut scene = Scene::set("refuse_weak = true");
    let mut early = scene.start("good");
    assert_eq!(scene.asks(&mut early), scene.held());
    scene.agent.kill_and_start();
    let mut late = scene.start("good");
    let is_served = || (scene.asks(&mut late) == scene.held()).then_some(());
    eventually("who came after the agent is served", SYNCED, is_served);
    assert!(!scene.asks(&mut early).is_held(), "what it executed the agent did not see");
}

/// An agent that was told something about executables, and an entry for the attacker's user and one program.
struct Scene {
    _server: Server,
    agent: Agent,
    folder: Folder,
}

impl Scene {
    fn set(executables: &str) -> Self {
        let (server, folder) = (Server::start(""), Folder::new());
        put(attacker(), &folder.join("good"), "good");
        put(attacker(), &folder.join("evil"), "evil");
        let path = format!("unix:path:{}", folder.join("good").display());
        let user = format!("unix:uid:{ATTACKER}");
        let create = ["entry", "create", "--spiffe-id", "/path", "--parent", "a"];
        let _ = server.run(&[&create[..], &["--selector", &path, "--selector", &user]].concat()).done();
        let token = server.token("a");
        let more = format!("token = {token:?}\n[attestors.executables]\n{executables}\n");
        let agent = Agent::start(&server, Folder::new(), &more);
        let scene = Self { _server: server, agent, folder };
        let is_served = || (scene.asks(&mut scene.start("good")) == scene.held()).then_some(());
        eventually("the good program is served", SYNCED, is_served);
        assert!(!scene.asks(&mut scene.start("evil")).is_held());
        scene
    }

    fn start(&self, program: &str) -> Attacker {
        let mut command = Command::new(self.folder.join(program));
        Attacker::start(command.uid(ATTACKER).gid(ATTACKER), &self.folder)
    }

    fn asks(&self, attacker: &mut Attacker) -> Verdict {
        attacker.tries(&self.agent.workload_socket())
    }

    fn held(&self) -> Verdict {
        Verdict::Held(vec!["spiffe://writ.local/path".to_owned()])
    }
}
