//! Who is in which container, by Docker and by Podman themselves.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::daemon::{Agent, Server};
use integration_tests::engine::{Container, Engine, IMAGE};
use integration_tests::figures::first_and_later;
use integration_tests::{Answer, Folder, eventually, test_workload};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A node that asks an engine about its containers.
struct Node {
    server: Server,
    agent: Agent,
}

impl Node {
    fn of(engine: &Engine) -> Self {
        let server = Server::start("");
        let token = format!("token = {:?}\n", server.token("node"));
        let agent = Agent::start(&server, Folder::new(), &(token + &engine.configuration()));
        Self { server, agent }
    }

    fn entry(&self, path: &str, selectors: &[&str]) {
        self.agent.entry(&self.server, "node", path, selectors);
    }

    /// Applies a file of one entry and waits until the agent has it.
    fn apply(&self, entries: &Path) {
        let known = || self.agent.status()["entries"].as_u64();
        let before = known();
        let _ = self.server.run(&["apply", "--file", &entries.display().to_string()]).done();
        eventually("the agent has the entry", Duration::from_secs(60), || (known() > before).then_some(()));
    }

    fn public(&self) -> std::path::PathBuf {
        self.agent.file("public")
    }

    /// What the agent knows of a process.
    fn explain(&self, pid: u32) -> Value {
        self.agent.run(&["explain", "--pid", &pid.to_string(), "--output", "json"]).done().json()
    }
}

fn id(path: &str) -> String {
    format!("spiffe://writ.local{path}")
}

/// Insists that it is served these: at once, but for an SVID that comes a moment after its entry, and for an
/// engine that hung and is left alone for some seconds.
#[track_caller]
fn serves(container: &Container, ids: &Value) {
    let served = || (container.ask()["ids"] == *ids).then_some(());
    eventually(&format!("{ids} is served"), Duration::from_secs(60), served);
}

fn is_refused(answer: &Value) -> bool {
    answer["ids"].is_null() && answer["code"].is_string()
}

#[test]
fn a_container_of_docker_has_what_its_labels_variables_and_image_entitle_it_to() {
    let Some(engine) = Engine::docker() else { return };
    labels_variables_and_image(&engine);
}

#[test]
fn a_container_of_podman_has_what_its_labels_variables_and_image_entitle_it_to() {
    let Some(engine) = Engine::podman() else { return };
    labels_variables_and_image(&engine);
}

#[test]
fn what_docker_said_is_known_without_asking_again() {
    let Some(engine) = Engine::docker() else { return };
    is_asked_once(&engine);
}

#[test]
fn what_podman_said_is_known_without_asking_again() {
    let Some(engine) = Engine::podman() else { return };
    is_asked_once(&engine);
}

fn is_asked_once(engine: &Engine) {
    let node = Node::of(engine);
    for _ in 0..3 {
        let container = engine.container(&node.public(), &["--label", "role=planner"]);
        let pid = engine.first_process(&container);
        let (first, later) = first_and_later("docker", || node.explain(pid));
        assert!(later < first, "{later} µs from memory, {first} µs from the engine");
    }
}

fn labels_variables_and_image(engine: &Engine) {
    let node = Node::of(engine);
    let planner = engine.container(
        &node.public(),
        &["--label", "com.acme.role=planner", "--env", "STAGE=prod", "--env", "TOKEN=c4nary"],
    );
    let digest = engine.inspect(&planner)["Image"].as_str().expect("it has one").to_owned();
    let digest = format!("docker:image_config_digest:sha256:{}", digest.trim_start_matches("sha256:"));
    node.entry("/by-label", &["docker:label:com.acme.role:planner"]);
    node.entry("/by-variable", &["docker:env:STAGE=prod", "docker:label:com.acme.role:planner"]);
    let image = format!("docker:image_id:{IMAGE}");
    node.entry("/by-image", &[&image, &digest]);
    let all = json!([id("/by-image"), id("/by-label"), id("/by-variable")]);
    serves(&planner, &all);

    let other = engine.container(&node.public(), &["--label", "com.acme.role=reviewer"]);
    serves(&other, &json!([id("/by-image")])); // the image is all that they share

    // A process of the host, though it is told to be one of a container by its environment.
    let mut host = Command::new(test_workload());
    host.arg("fetch").arg(node.agent.workload_socket()).env("STAGE", "prod");
    assert!(is_refused(&Answer::of(&mut host).json()));

    let facts = node.explain(engine.first_process(&planner));
    assert!(facts.to_string().contains("docker:label:com.acme.role:planner"), "{facts}");
    let log = std::fs::read_to_string(node.agent.file("agent.log")).expect("the harness keeps it");
    assert!(!log.contains("c4nary"), "a container's variable is in the agent's log");
}

#[test]
fn an_engine_that_is_away_only_takes_away_what_is_not_known_yet_and_is_told_once() {
    let Some(mut engine) = Engine::docker() else { return };
    let node = Node::of(&engine);
    node.entry("/planner", &["docker:label:role:planner"]);
    let known = engine.container(&node.public(), &["--label", "role=planner"]);
    let served = json!([id("/planner")]);
    serves(&known, &served);

    let unknown = engine.container(&node.public(), &["--label", "role=planner"]);
    engine.signal(Signal::SIGSTOP);
    assert_eq!(known.ask()["ids"], served, "it runs on, so what was said of it holds");
    for _ in 0..3 {
        assert!(is_refused(&unknown.ask()), "nobody vouches for this one");
    }
    engine.signal(Signal::SIGCONT);
    serves(&unknown, &served);

    let late = engine.container(&node.public(), &["--label", "role=planner"]);
    engine.kill();
    assert_eq!(known.ask()["ids"], served);
    assert!(is_refused(&late.ask()));
    engine.start_again();
    serves(&late, &served);
    let log = std::fs::read_to_string(node.agent.file("agent.log")).expect("the harness keeps it");
    let told = log.matches("an attestor fails").count();
    assert_eq!(told, 1, "once, and not again within a minute:\n{log}");
}

/// The folder of the examples, on a real engine: only the image's digest and where things are differ.
#[test]
fn the_tests_of_the_docker_example_pass_with_a_container_that_is_started_for_them() {
    let Some(engine) = Engine::docker() else { return };
    let node = Node::of(&engine);
    let made = engine.run(&["create", IMAGE, "none"]).done().out.trim().to_owned();
    let changes = [
        "LABEL org.opencontainers.image.title=triage com.acme.app=triage",
        "USER 10001:10001",
        "ENTRYPOINT [\"/test-workload\", \"pause\"]",
    ];
    let changes = changes.iter().flat_map(|change| ["--change", change]);
    let commit: Vec<_> = ["commit"].into_iter().chain(changes).chain([&*made, "triage"]).collect();
    let _ = engine.run(&commit).done();
    let digest = engine.run(&["image", "inspect", "--format", "{{.Id}}", "triage"]).done().out;

    let public = node.public().display().to_string();
    let folder = crate::example_folders::copy("docker", |text| {
        let digests = "sha256:3b7e0f1c1f0d5d5c2a86a3f4c1f6e7d8a9b0c1d2e3f405162738495a6b7c8d9e";
        text.replace(digests, digest.trim())
            .replace("/run/writ/public:/", &format!("{public}:/"))
            .replace(": local", ": node")
    });
    node.apply(&folder.join("entries.yaml"));
    let mut test = node.agent.attest_test(&folder.join("attest-tests.yaml"));
    test.env("DOCKER_HOST", format!("unix://{}", engine.socket().display()));
    let report = Answer::of(&mut test).json();
    assert_eq!((&report["passed"], &report["failed"]), (&json!(4), &json!(0)), "{report}");
    let left = engine.run(&["ps", "--quiet"]).done().out;
    assert_eq!(left, "", "the container ended with its test");
}

#[test]
fn a_container_that_ended_is_forgotten_with_its_id() {
    let Some(engine) = Engine::docker() else { return };
    let node = Node::of(&engine);
    node.entry("/planner", &["docker:label:role:planner"]);
    let planner = engine.container(&node.public(), &["--label", "role=planner"]);
    serves(&planner, &json!([id("/planner")]));
    engine.remove(&planner);
    // Whoever is put where it was is not taken for it.
    let answer = ask_from_cgroup(&node, &format!("docker/{}", planner.id), "");
    assert!(is_refused(&answer), "{answer}");
}

#[test]
fn a_cgroup_named_like_anothers_container_gives_nothing_of_it() {
    let Some(engine) = Engine::docker() else { return };
    let node = Node::of(&engine);
    node.entry("/planner", &["docker:label:role:planner"]);
    node.entry("/reviewer", &["docker:label:role:reviewer"]);
    let planner = engine.container(&node.public(), &["--label", "role=planner"]);
    let reviewer = engine.container(&node.public(), &["--label", "role=reviewer"]);
    serves(&planner, &json!([id("/planner")]));
    serves(&reviewer, &json!([id("/reviewer")]));

    let given = format!("writ-given-{}", std::process::id());
    for place in ["", "docker/", "system.slice/docker-"] {
        let end = if place.ends_with('-') { ".scope" } else { "" };
        // Below a cgroup that was given to somebody.
        let answer = ask_from_cgroup(&node, &given, &format!("/{place}{}{end}", planner.id));
        assert!(is_refused(&answer), "below a cgroup of its own, {place}: {answer}");
        // Below the cgroup of another container.
        let own = format!("docker/{}", reviewer.id);
        let answer = ask_from_cgroup(&node, &own, &format!("/{place}{}{end}", planner.id));
        assert_eq!(answer["ids"], json!([id("/reviewer")]), "below another container's, {place}");
    }
    assert_eq!(planner.ask()["ids"], json!([id("/planner")]), "and the container keeps its own");
}

#[test]
fn another_containers_cgroup_that_is_bind_mounted_gives_nothing_of_it() {
    let Some(engine) = Engine::docker() else { return };
    let node = Node::of(&engine);
    node.entry("/planner", &["docker:label:role:planner"]);
    let planner = engine.container(&node.public(), &["--label", "role=planner"]);
    serves(&planner, &json!([id("/planner")]));

    let first = engine.first_process(&planner);
    let directory = hierarchies().remove(0).join("docker").join(&planner.id);
    let folder = Folder::new();
    let faked = folder.join("cgroup");
    std::fs::create_dir(&faked).expect("the folder is ours");
    let script = format!(
        "mount --bind {directory:?} {faked:?} && mount --bind /proc/{first}/cgroup /proc/self/cgroup && \
         exec {:?} fetch {:?}",
        test_workload(),
        node.agent.workload_socket()
    );
    let mut forger = Command::new("unshare");
    forger.args(["--mount", "--cgroup", "sh", "-c", &script]);
    let answer = Answer::of(&mut forger);
    assert!(is_refused(&answer.json()), "{answer:?}");
}

/// Asks from a cgroup of every hierarchy; `own` is there or is made, `child` is made below it.
fn ask_from_cgroup(node: &Node, own: &str, child: &str) -> Value {
    let places: Vec<_> =
        hierarchies().iter().map(|hierarchy| hierarchy.join(format!("{own}{child}"))).collect();
    let mut script = String::new();
    for place in &places {
        make_cgroup(place);
        script += &format!("echo $$ > {:?} && ", place.join("cgroup.procs"));
    }
    script += &format!("exec {:?} fetch {:?}", test_workload(), node.agent.workload_socket());
    let answer = Answer::of(Command::new("sh").arg("-c").arg(script));
    for place in &places {
        remove_cgroups(place);
    }
    answer.json()
}

fn hierarchies() -> Vec<std::path::PathBuf> {
    let found = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups are mounted");
    found.map(|hierarchy| hierarchy.expect("it can be read").path()).filter(|path| path.is_dir()).collect()
}

fn make_cgroup(path: &Path) {
    std::fs::create_dir_all(path).expect("root makes cgroups");
    // A fresh cpuset takes nobody before it has processors and memory, from its parents.
    let ancestors: Vec<_> = path.ancestors().take_while(|above| above.join("cpuset.cpus").exists()).collect();
    for setting in ["cpuset.cpus", "cpuset.mems"] {
        for pair in ancestors.windows(2).rev() {
            let of = |place: &Path| std::fs::read_to_string(place.join(setting)).expect("readable");
            if of(pair[0]).trim().is_empty() {
                std::fs::write(pair[0].join(setting), of(pair[1])).expect("root sets it");
            }
        }
    }
}

/// Removes a cgroup and those above it that are empty by now, but none that engines share.
fn remove_cgroups(path: &Path) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    // Its last process may not be reaped yet.
    while std::fs::remove_dir(path).is_err() && path.exists() && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    // "/", "sys", "fs", "cgroup" and the hierarchy are five.
    let is_ours = |path: &&Path| {
        let first = path.components().nth(5).map(|part| part.as_os_str().to_owned());
        first.is_some_and(|first| first != "docker" || path.components().count() > 7)
    };
    for above in path.ancestors().skip(1).take_while(is_ours) {
        let _ = std::fs::remove_dir(above);
    }
}
