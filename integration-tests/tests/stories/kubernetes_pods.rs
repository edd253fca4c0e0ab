//! Real pods, on a node with Kubernetes' own kubelet: who they are is what Kubernetes says of them.

use std::path::Path;

use integration_tests::cluster::{self, Cluster, Container};
use integration_tests::daemon::{Agent, Server};
use integration_tests::figures::first_and_later;
use integration_tests::spire::PATIENCE;
use integration_tests::{Answer, Folder, Running, eventually, test_workload};
use serde_json::{Value, json};

/// A server and an agent on the cluster's node, as their pods would have them.
struct Node {
    server: Server,
    agent: Agent,
    cluster: Cluster,
}

impl Node {
    /// The agent asks as a service account that may do what `rules` say; `more` is its `[attestors.k8s]`.
    fn start(rules: &Value, more: &str) -> Option<Self> {
        let cluster = Cluster::start()?;
        cluster.namespace("writ", &json!({}));
        cluster.service_account("writ", "agent");
        cluster.allow("writ", "agent", rules);
        let token = cluster.service_account_token("writ", "agent", None, None);
        let token = cluster.folder().write("agent.token", token);
        let authority = cluster.authority();
        let (server, agent) = cluster.inside(|| {
            let server = Server::start("");
            let config = format!(
                "token = {:?}\n[attestors.k8s]\nkubelet_ca = {authority:?}\napi_server = {:?}\n\
                 api_server_ca = {authority:?}\ntoken_file = {token:?}\n{more}",
                server.token("node"),
                cluster::API,
            );
            let agent = Agent::start(&server, Folder::new(), &config);
            (server, agent)
        });
        Some(Self { server, agent, cluster })
    }

    /// Registers an identity on this node and waits until the agent has it.
    fn entry(&self, path: &str, selectors: &[&str]) {
        let known = || self.agent.status()["entries"].as_u64();
        let before = known();
        let mut arguments = vec!["entry", "create", "--spiffe-id", path, "--parent", "node"];
        selectors.iter().for_each(|selector| arguments.extend(["--selector", selector]));
        let _ = self.server.run(&arguments).done();
        eventually("the agent has the entry", PATIENCE, || (known() > before).then_some(()));
    }

    /// Starts a pod that sees the agent's public directory.
    fn pod(&self, namespace: &str, name: &str, service_account: &str, labels: &Value) -> Container {
        let public = self.agent.file("public");
        self.cluster.run(
            namespace,
            name,
            &json!({ "labels": labels }),
            &json!({
                "serviceAccountName": service_account,
                "volumes": [{ "name": "identities", "hostPath": { "path": public, "type": "Directory" } }],
            }),
            &json!({ "volumeMounts": [{ "name": "identities", "mountPath": "/identities" }] }),
        )
    }

    /// What a process of the pod is answered: its identities, or a refusal.
    fn ask(&self, pod: &Container) -> Value {
        let fetch = ["/test-workload", "fetch", "/identities/workload.sock"];
        let answer = Answer::of(&mut self.cluster.exec(pod, &fetch));
        serde_json::from_str(&answer.out)
            .unwrap_or_else(|_| panic!("no answer: {}{}", answer.out, answer.err))
    }

    /// A process of the pod that keeps a stream open, and says what comes on it.
    fn watch(&self, pod: &Container) -> Running {
        let watch = ["/test-workload", "watch", "/identities/workload.sock"];
        Running::start(&mut self.cluster.exec(pod, &watch), "watch", self.cluster.folder().path())
    }

    /// Sets a label of a pod, or takes it away.
    fn label(&self, namespace: &str, pod: &str, label: &str, value: &Value) {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
        self.cluster.patch(&path, &json!({ "metadata": { "labels": { label: value } } }));
    }

    /// What a process of the host is answered that is in a cgroup of this path.
    fn ask_within(&self, cgroup: &str) -> Value {
        let (program, socket) = (test_workload(), self.agent.workload_socket());
        let mut command =
            self.cluster.within(cgroup, &[program.as_os_str(), "fetch".as_ref(), socket.as_os_str()]);
        Answer::of(&mut command).json()
    }

    /// Asks until the pod has exactly these identities.
    fn is(&self, pod: &Container, paths: &[&str]) {
        eventually(&format!("the pod is {paths:?}"), PATIENCE, || {
            (self.ask(pod)["ids"] == ids(paths)).then_some(())
        });
    }

    /// Applies a file of one entry and waits until the agent has it.
    fn apply(&self, entries: &Path) {
        let known = || self.agent.status()["entries"].as_u64();
        let before = known();
        let _ = self.server.run(&["apply", "--file", &entries.display().to_string()]).done();
        eventually("the agent has the entry", PATIENCE, || (known() > before).then_some(()));
    }

    /// How often the log tells that the attestor fails.
    fn times_failed(&self) -> usize {
        self.agent.log().matches("an attestor fails").count()
    }

    /// Asks and insists on a refusal that is not for the moment only.
    fn is_nobody(&self, pod: &Container) {
        let answer = self.ask(pod);
        assert_eq!(answer["code"], "PermissionDenied", "{answer}");
    }
}

fn said(stream: &Running) -> Value {
    let line = stream.line(PATIENCE);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))
}

fn ids(paths: &[&str]) -> Value {
    paths.iter().map(|path| format!("spiffe://writ.local{path}")).collect()
}

fn may(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}

#[test]
fn a_pod_is_who_its_kubelet_says_and_stays_so_while_the_kubelet_is_away() {
    let Some(mut node) = Node::start(&json!([may("", &["nodes/proxy", "nodes/pods"], &["get"])]), "") else {
        return;
    };
    node.cluster.service_account("default", "planner");
    let labels = json!({ "app": "planner" });
    let planner = node.pod("default", "planner", "planner", &labels);
    let of_another_account = node.pod("default", "impostor", "default", &labels);
    let without_the_label = node.pod("default", "plain", "planner", &json!({}));
    node.entry(
        "/planner",
        &["k8s:ns:default", "k8s:sa:planner", "k8s:pod-label:app:planner", "k8s:container-name:planner"],
    );
    let uid = format!("k8s:pod-uid:{}", planner.pod_uid);
    let of_the_pod =
        ["k8s:node-name:node1", "k8s:pod-image-count:1", "k8s:pod-image:writ.test/workload:1", &uid];
    node.entry("/in-the-pod", &of_the_pod);
    let both = ["/in-the-pod", "/planner"];

    let pid = node.cluster.processes(&planner)[0].to_string();
    let explain = || node.agent.run(&["explain", "--pid", &pid, "--output", "json"]).done().json();
    let (first, later) = first_and_later("k8s", explain);
    assert!(later < first, "{later} µs from memory, {first} µs from the kubelet");
    node.is(&planner, &both);
    node.is_nobody(&of_another_account);
    node.is_nobody(&without_the_label);

    // An open stream follows what Kubernetes says of its pod.
    let stream = node.watch(&planner);
    assert_eq!(said(&stream)["ids"], ids(&both));
    node.label("default", "planner", "app", &Value::Null);
    assert_eq!(said(&stream)["ids"], ids(&["/in-the-pod"]));
    node.label("default", "planner", "app", &json!("planner"));
    assert_eq!(said(&stream)["ids"], ids(&both));
    drop(stream);

    // The folder of the examples, on a real node: only where the pod is looked for differs.
    node.cluster.namespace("agents", &json!({}));
    node.cluster.service_account("agents", "triage");
    let triage = node.pod("agents", "triage", "triage", &json!({ "app": "triage" }));
    let first = *node.cluster.processes(&triage).first().expect("it runs");
    let folder = crate::example_folders::copy("kubernetes", |text| {
        let asks = text.lines().map(|line| match line.split_once("- crictl inspect") {
            Some((indent, _)) => format!("{indent}- echo {first}"),
            None => line.to_owned(),
        });
        asks.collect::<Vec<_>>().join("\n")
    });
    node.apply(&folder.join("entries.yaml"));
    eventually("the pod's test passes", PATIENCE, || {
        let report = Answer::of(&mut node.agent.attest_test(&folder.join("attest-tests.yaml"))).json();
        (report["passed"] == 5 && report["failed"] == 0).then_some(())
    });

    // Whoever owns a cgroup can make others in it and name them as it likes.
    let own = format!("kubepods/besteffort/pod{}/{}", without_the_label.pod_uid, without_the_label.id);
    for name in [planner.id.clone(), format!("pod{}/{}", planner.pod_uid, planner.id)] {
        let answer = node.ask_within(&format!("{own}/{name}"));
        assert_eq!(answer["code"], "PermissionDenied", "it is not the planner: {answer}");
    }

    node.cluster.kill_kubelet();
    eventually("the agent misses the kubelet", PATIENCE, || {
        assert_eq!(node.ask(&planner)["ids"], ids(&both), "what is known of it is used meanwhile");
        (node.times_failed() > 0).then_some(())
    });
    // A container of the same pod, as the kernel sees it, of which nobody has told the agent.
    let new = format!("kubepods/besteffort/pod{}/{}", planner.pod_uid, "0123456789abcdef".repeat(4));
    let answer = node.ask_within(&new);
    assert!(answer["code"].is_string(), "nobody can say what it is: {answer}");
    assert_eq!(node.ask(&planner)["ids"], ids(&both));
    assert_eq!(node.times_failed(), 1, "it is told once: {}", node.agent.log());
    node.cluster.start_kubelet();
    let answer = node.ask_within(&new);
    assert!(answer["code"].is_string(), "the kubelet knows no such container: {answer}");
    let later = node.pod("default", "later", "planner", &labels);
    node.entry("/later", &["k8s:pod-name:later", "k8s:container-name:later"]);
    node.is(&later, &["/later"]);
}

#[test]
fn where_the_api_server_is_watched_a_label_counts_from_the_moment_it_is_set() {
    let rules = [may("", &["pods"], &["list", "watch"]), may("", &["namespaces"], &["list", "watch"])];
    let more = "source = \"api\"\nnode_name = \"node1\"\nnamespace_labels = true\n";
    let Some(node) = Node::start(&json!(rules), more) else { return };
    node.cluster.namespace("agents", &json!({ "team": "blue" }));
    node.entry("/blue", &["k8s:ns-label:team:blue", "k8s:pod-label:stage:ready"]);
    let pod = node.pod("agents", "worker", "default", &json!({}));
    let elsewhere = node.pod("default", "worker", "default", &json!({ "stage": "ready" }));
    node.is_nobody(&pod);
    node.is_nobody(&elsewhere);
    node.label("agents", "worker", "stage", &json!("ready"));
    node.is(&pod, &["/blue"]);
    let stream = node.watch(&pod);
    assert_eq!(said(&stream)["ids"], ids(&["/blue"]));
    node.label("agents", "worker", "stage", &Value::Null);
    assert_eq!(said(&stream)["code"], "PermissionDenied", "the stream ends with what it was opened for");
    node.is_nobody(&pod);
}
