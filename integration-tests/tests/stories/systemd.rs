//! Who belongs to which unit, on a host with a systemd of its own where Writ is a unit as well.

use std::time::Duration;

use integration_tests::eventually;
use integration_tests::figures::first_and_later;
use integration_tests::systemd::Host;
use serde_json::{Value, json};

const WRIT: &str = "/opt/writ/writ";
const WORKLOAD: &str = "/opt/writ/test-workload";
const DATA: &str = "/var/lib/writ";

/// Such a host with `writ up` on it.
struct Node {
    host: Host,
    /// Where workloads ask.
    socket: String,
}

impl Node {
    fn up() -> Option<Self> {
        let host = Host::boot()?;
        let properties =
            ["--property=StandardOutput=file:/run/ready", "--property=StandardError=file:/run/writ.log"];
        let up = [WRIT, "up", "--output", "json", "--data", DATA];
        let run = ["systemd-run", "--quiet", "--unit=writ"];
        let _ = host.run(&[&run[..], &properties, &["--"], &up].concat()).done();
        let socket = eventually("writ is up", Duration::from_secs(60), || {
            let ready = std::fs::read_to_string(host.file("/run/ready")).ok()?;
            let ready: Value = serde_json::from_str(ready.lines().next()?).ok()?;
            Some(ready["workload_api"].as_str()?.trim_start_matches("unix://").to_owned())
        });
        Some(Self { host, socket })
    }

    fn writ(&self, arguments: &[&str]) -> integration_tests::Answer {
        let data = format!("WRIT_DATA={DATA}");
        self.host.run(&[&["env", &data, WRIT], arguments].concat())
    }

    fn entry(&self, path: &str, selectors: &[&str]) {
        let known = || self.writ(&["status", "--output", "json"]).json()["agent"]["entries"].as_u64();
        let before = known();
        let mut create = vec!["entry", "create", "--spiffe-id", path, "--parent", "local"];
        selectors.iter().for_each(|selector| create.extend(["--selector", selector]));
        let _ = self.writ(&create).done();
        let has = || (known() > before).then_some(());
        eventually("the agent has the entry", Duration::from_secs(60), has);
    }

    /// What a process of this unit is answered.
    fn ask(&self, unit: &str, properties: &[&str]) -> Value {
        self.host.unit(unit, properties, &[WORKLOAD, "fetch", &self.socket]).json()
    }

    /// Insists that it is served these; the last SVID may come a moment after its entry.
    #[track_caller]
    fn serves(&self, unit: &str, properties: &[&str], paths: &[&str]) {
        let served = || (self.ask(unit, properties)["ids"] == ids(paths)).then_some(());
        eventually(&format!("{unit} is served {paths:?}"), Duration::from_secs(60), served);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.host.file("/run/writ.log")).unwrap_or_default()
    }
}

fn ids(paths: &[&str]) -> Value {
    paths.iter().map(|path| json!(format!("spiffe://writ.local{path}"))).collect()
}

#[test]
fn a_unit_has_what_its_name_and_its_file_entitle_it_to() {
    let Some(node) = Node::up() else { return };
    node.entry("/planner", &["systemd:id:planner.service"]);
    node.entry("/by-file", &["systemd:fragment_path:/run/systemd/transient/planner.service"]);
    node.serves("planner", &[], &["/by-file", "/planner"]);
    node.serves("planner", &["--property=User=nobody"], &["/by-file", "/planner"]);
    assert!(node.ask("reviewer", &[])["ids"].is_null(), "another unit has neither");
    let outside = node.host.run(&[WORKLOAD, "fetch", &node.socket]);
    assert!(outside.json()["ids"].is_null(), "a process of no unit has neither");

    // A unit from a file of the administrator's, in a slice of its own.
    let file =
        "[Service]\nType=oneshot\nSlice=acme-batch.slice\nStandardOutput=truncate:/run/said\nExecStart=";
    let unit = format!("{file}{WORKLOAD} fetch {}\n", node.socket);
    std::fs::write(node.host.file("/etc/systemd/system/batch@.service"), unit).expect("the host is ours");
    node.entry("/batch", &["systemd:fragment_path:/etc/systemd/system/batch@.service"]);
    node.entry("/instance", &["systemd:id:batch@7.service"]);
    eventually("the instance is served", Duration::from_secs(60), || {
        let _ = node.host.run(&["systemctl", "start", "batch@7.service"]).done();
        let said = std::fs::read_to_string(node.host.file("/run/said")).expect("it said something");
        let said: Value = serde_json::from_str(&said).expect("JSON");
        (said["ids"] == ids(&["/batch", "/instance"])).then_some(())
    });

    // Without a bus the kernel still says which unit it is.
    let _ = node.host.run(&["systemctl", "stop", "dbus.socket", "dbus.service"]).done();
    node.entry("/drafter", &["systemd:id:drafter.service"]);
    node.entry("/drafter-by-file", &["systemd:fragment_path:/etc/systemd/system/drafter.service"]);
    let file = "[Service]\nType=oneshot\nStandardOutput=truncate:/run/drafted\nExecStart=";
    let unit = format!("{file}{WORKLOAD} fetch {}\n", node.socket);
    std::fs::write(node.host.file("/etc/systemd/system/drafter.service"), unit).expect("the host is ours");
    eventually("the unit is served by its name", Duration::from_secs(60), || {
        let _ = node.host.run(&["systemctl", "start", "drafter.service"]);
        let said = std::fs::read_to_string(node.host.file("/run/drafted")).ok()?;
        let said: Value = serde_json::from_str(&said).ok()?;
        (said["ids"] == ids(&["/drafter"])).then_some(())
    });
    assert_eq!(node.log().matches("an attestor fails").count(), 1, "told once:\n{}", node.log());
}

/// The folder of the examples, and a unit that runs already.
#[test]
fn the_tests_of_the_systemd_example_pass_with_a_unit_that_is_started_for_them() {
    let Some(node) = Node::up() else { return };
    node.entry("/planner", &["systemd:id:planner.service"]);
    let start = ["systemd-run", "--quiet", "--unit=planner", "--", "sleep", "600"];
    let _ = node.host.run(&start).done();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/systemd");
    std::fs::create_dir(node.host.file("/run/example")).expect("the host is ours");
    for name in ["attest-tests.yaml", "entries.yaml"] {
        let text = std::fs::read_to_string(format!("{examples}/{name}")).expect("it is there");
        std::fs::write(node.host.file(&format!("/run/example/{name}")), text).expect("the host is ours");
    }
    let running = "tests:\n- name: a unit that runs\n  unit: {name: planner.service}\n  \
                   expect: {strong: [systemd:id:planner.service], ids: [/planner]}\n";
    std::fs::write(node.host.file("/run/example/running.yaml"), running).expect("the host is ours");
    for (file, passed) in [("attest-tests.yaml", 5), ("running.yaml", 1)] {
        let file = format!("/run/example/{file}");
        let report = node.writ(&["attest", "test", "--output", "json", &file]).json();
        assert_eq!((&report["passed"], &report["failed"]), (&json!(passed), &json!(0)), "{report}");
    }
    let left = node.host.run(&["systemctl", "list-units", "--plain", "--no-legend", "writ-attest-test-*"]);
    assert_eq!(left.out, "", "the unit ended with its test");
}

#[test]
fn where_the_file_of_a_unit_is_is_known_without_asking_again() {
    let Some(node) = Node::up() else { return };
    for unit in ["one", "two", "three"] {
        let unit = format!("{unit}.service");
        let start = ["systemd-run", "--quiet", "--unit", &unit, "sleep", "1000"];
        let _ = node.host.run(&start).done();
        let shown = node.host.run(&["systemctl", "show", "--property=MainPID", "--value", &unit]).done();
        let explain = ["explain", "--pid", shown.out.trim(), "--output", "json"];
        let (first, later) = first_and_later("systemd", || node.writ(&explain).done().json());
        assert!(later < first, "{later} µs from memory, {first} µs from systemd");
    }
}

#[test]
fn a_unit_that_names_its_own_cgroups_like_another_unit_gets_nothing_of_it() {
    let Some(node) = Node::up() else { return };
    node.entry("/planner", &["systemd:id:planner.service"]);
    node.entry("/planner-by-file", &["systemd:fragment_path:/run/systemd/transient/planner.service"]);
    node.serves("planner", &[], &["/planner", "/planner-by-file"]);
    node.entry("/rogue", &["systemd:id:rogue.service"]);
    for below in ["planner.service", "system.slice/planner.service", "init.scope"] {
        // It was given its cgroup, as a user's own manager or a container engine is.
        let script = format!(
            "for h in systemd unified; do d=/sys/fs/cgroup/$h/system.slice/rogue.service/{below}; \
             mkdir -p $d && echo $$ > $d/cgroup.procs || exit 1; done; exec {WORKLOAD} fetch {}",
            node.socket
        );
        std::fs::write(node.host.file("/run/rogue"), script).expect("the host is ours");
        let answer = node.host.unit("rogue", &["--property=Delegate=yes"], &["sh", "/run/rogue"]);
        assert_eq!(answer.json()["ids"], ids(&["/rogue"]), "{below}: {answer:?}");
    }
}
