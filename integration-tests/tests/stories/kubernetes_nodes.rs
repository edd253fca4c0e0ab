//! Nodes that a real Kubernetes cluster vouches for: by TokenReview (`k8s_psat`), and as an OpenID Connect
//! issuer (`oidc`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use integration_tests::cluster::{self, Cluster, Container};
use integration_tests::daemon::{Agent, Server};
use integration_tests::spire::{self, Commands, Joining, PATIENCE};
use integration_tests::workload::{Workload, ids};
use integration_tests::{Answer, Folder, Running, eventually, needs, writ_command};
use serde_json::{Value, json};

use crate::own_uid;

/// With back-offs between, on a loaded machine.
const BACK: Duration = Duration::from_secs(60);

/// A cluster, and a Writ server on its network.
struct Site {
    server: Server,
    cluster: Cluster,
}

impl Site {
    fn entry(&self, path: &str, parent: &str) {
        let create = ["entry", "create", "--spiffe-id", path, "--parent", parent, "--selector", &own_uid()];
        let _ = self.server.run(&create).done();
    }

    fn agent(&self, attestor: &str) -> Agent {
        self.cluster.inside(|| Agent::start(&self.server, Folder::new(), attestor))
    }

    fn nodes(&self) -> Vec<Value> {
        let list = self.server.run(&["node", "list", "--output", "json"]).done().json();
        list["nodes"].as_array().expect("a list").clone()
    }

    /// An agent that must not come in; what it logged.
    fn turned_away(&self, attestor: &str) -> String {
        let folder = Folder::new();
        let [state, private, public] = ["state", "private", "public"].map(|name| folder.join(name));
        let (address, pin) = (self.server.address(), &self.server.serving["server_pin"]);
        let config = format!(
            "server = {address:?}\npin = {pin}\nstate_dir = {state:?}\nprivate_dir = {private:?}\npublic_dir = {public:?}\n{attestor}"
        );
        let config = folder.write("agent.toml", config);
        let mut command = writ_command();
        command.args(["agent", "run", "--config"]).arg(config);
        let mut running = self.cluster.inside(|| Running::start(&mut command, "agent", folder.path()));
        assert!(!running.ended(BACK).success(), "it came in");
        running.log()
    }

    /// Insists that an agent stays out without hearing why, and that the server's log says it.
    fn stays_out(&self, attestor: &str, why: &str) {
        let log = self.turned_away(attestor);
        assert!(log.contains("does not attest here") && !log.contains(why), "{log}");
        eventually(&format!("the server says {why:?}"), PATIENCE, || {
            self.server.log().contains(why).then_some(())
        });
    }
}

/// Waits until a process of ours is this.
async fn served(socket: &Path, id: &str, log: impl Fn() -> String) {
    let id = format!("spiffe://writ.local{id}");
    let asked = async {
        loop {
            if tokio::net::UnixStream::connect(socket).await.is_ok()
                && let Ok(svids) = Workload::connect(socket).await.watch().next().await
                && ids(&svids).contains(&id)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let asked = tokio::time::timeout(BACK, asked).await;
    asked.unwrap_or_else(|_| panic!("nobody is {id}\n{}", log()));
}

fn may(group: &str, resource: &str, verb: &str) -> Value {
    json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] })
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_clusters_issuer_attest_runners_each_once_and_only_those_that_are_meant() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.namespace("ci", &json!({}));
    ["runner", "stranger"].iter().for_each(|name| cluster.service_account("ci", name));
    // Its keys are public, as any issuer's are that others shall believe.
    let group = "rbac.authorization.k8s.io";
    cluster.apply(&json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": { "name": "issuer" },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "system:service-account-issuer-discovery" },
        "subjects": [{ "kind": "Group", "apiGroup": group, "name": "system:unauthenticated" }],
    }));
    let config = format!(
        "[[node_attestors.oidc]]\nissuer = {:?}\naudience = \"writ\"\nca_file = {:?}\n\
         required_claims = {{ sub = \"system:serviceaccount:ci:runner\" }}\n\
         claim_selectors = [\"/kubernetes.io/namespace\"]\n",
        cluster.issuer(),
        cluster.authority(),
    );
    let server = cluster.inside(|| Server::start(&config));
    let site = Site { server, cluster };
    let token = |account: &str, audience: &str| {
        let token = site.cluster.service_account_token("ci", account, None, Some(audience));
        let name = format!("{account}-{audience}-{}.token", site.nodes().len());
        format!("[node_attestor.oidc]\ntoken_file = {:?}\n", site.cluster.folder().write(&name, token))
    };
    site.entry("/job", "oidc:claim:/kubernetes.io/namespace:ci");
    let given = token("runner", "writ");
    let first = site.agent(&given);
    served(&first.workload_socket(), "/job", || first.log()).await;
    let [node] = &site.nodes()[..] else { panic!("one node") };
    assert_eq!(node["attestor"], "oidc");
    let selectors = node["selectors"].to_string();
    for selector in ["oidc:issuer:https://127.0.0.1:6443", "oidc:sub:system:serviceaccount:ci:runner"] {
        assert!(selectors.contains(selector), "{selector} is not in {selectors}");
    }

    let log = site.turned_away(&given);
    assert!(log.contains("has been used with another key"), "{log}");
    let second = site.agent(&token("runner", "writ"));
    served(&second.workload_socket(), "/job", || second.log()).await;
    assert_eq!(site.nodes().len(), 2, "each token makes a node");

    site.stays_out(&token("stranger", "writ"), "required_claims");
    site.stays_out(&token("runner", "other"), "another audience");
    let nonsense = site.cluster.folder().write("nonsense.token", "a.b.c");
    site.stays_out(&format!("[node_attestor.oidc]\ntoken_file = {nonsense:?}\n"), "base64url");

    // What leaked is worth nothing even after its node was evicted.
    let id = node["id"].as_str().expect("it has one");
    drop(first);
    let _ = site.server.run(&["node", "evict", id]).done();
    let log = site.turned_away(&given);
    assert!(log.contains("has been used with another key"), "{log}");
}

/// The pod under which an agent runs, and the file of its token.
struct Pod {
    container: Container,
    token: PathBuf,
}

impl Pod {
    fn new(cluster: &Cluster, account: &str, name: &str, audience: &str) -> Self {
        let (metadata, spec) =
            (json!({ "labels": { "app": "agent" } }), json!({ "serviceAccountName": account }));
        let container = cluster.run("spire", name, &metadata, &spec, &json!({}));
        let token = cluster.service_account_token("spire", account, Some(&container), Some(audience));
        Self { token: cluster.folder().write(&format!("{name}.token"), token), container }
    }

    fn agent(&self) -> String {
        format!("[node_attestor.k8s_psat]\ncluster = \"prod\"\ntoken_path = {:?}\n", self.token)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_in_pods_attest_by_the_review_of_their_tokens_writs_and_spires() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.namespace("spire", &json!({}));
    ["agent", "server", "stranger"].iter().for_each(|name| cluster.service_account("spire", name));
    cluster.allow(
        "spire",
        "server",
        &json!([
            may("authentication.k8s.io", "tokenreviews", "create"),
            may("", "pods", "get"),
            may("", "nodes", "get")
        ]),
    );
    cluster.patch("/api/v1/nodes/node1", &json!({ "metadata": { "labels": { "rack": "r1" } } }));
    let config = format!(
        "[node_attestors.k8s_psat.clusters.prod]\nservice_account_allow_list = [\"spire:agent\"]\n\
         kube_config_file = {:?}\nallowed_node_label_keys = [\"rack\"]\nallowed_pod_label_keys = [\"app\"]\n",
        cluster.kubeconfig("spire", "server"),
    );
    let server = cluster.inside(|| Server::start(&config));
    let site = Site { server, cluster };
    let pod = Pod::new(&site.cluster, "agent", "agent-1", "spire-server");
    let uid = site.cluster.get("/api/v1/nodes/node1")["metadata"]["uid"].as_str().expect("a UID").to_owned();
    let node = format!("spiffe://writ.local/spire/agent/k8s_psat/prod/{uid}");

    site.entry("/pod", "k8s_psat:agent_node_label:rack:r1");
    let agent = site.agent(&pod.agent());
    served(&agent.workload_socket(), "/pod", || agent.log()).await;
    let [known] = &site.nodes()[..] else { panic!("one node") };
    assert_eq!((&known["id"], &known["attestor"]), (&json!(node), &json!("k8s_psat")));
    let selectors = known["selectors"].to_string();
    let pod_uid = &pod.container.pod_uid;
    for selector in [
        "cluster:prod",
        "agent_ns:spire",
        "agent_sa:agent",
        "agent_pod_name:agent-1",
        &format!("agent_pod_uid:{pod_uid}"),
        "agent_pod_label:app:agent",
        "agent_node_ip:",
        &format!("agent_node_name:{}", cluster::NODE),
        &format!("agent_node_uid:{uid}"),
    ] {
        assert!(selectors.contains(&format!("k8s_psat:{selector}")), "{selector} is not in {selectors}");
    }

    // Whoever is not meant, and whoever is not who the token says.
    let stranger = Pod::new(&site.cluster, "stranger", "stranger-1", "spire-server");
    site.stays_out(&stranger.agent(), "service_account_allow_list");
    let for_others =
        site.cluster.service_account_token("spire", "agent", Some(&pod.container), Some("other"));
    let write = |name: &str, token: String| site.cluster.folder().write(name, token);
    let with = |token: PathBuf| Pod { token, container: pod.container.clone() }.agent();
    site.stays_out(&with(write("others.token", for_others)), "does not know the token");
    let unbound = site.cluster.service_account_token("spire", "agent", None, Some("spire-server"));
    site.stays_out(&with(write("unbound.token", unbound)), "not bound to a pod");
    let elsewhere = pod.agent().replace("prod", "test");
    site.stays_out(&elsewhere, "no such cluster");
    let gone = Pod::new(&site.cluster, "agent", "agent-2", "spire-server");
    site.cluster.remove("spire", "agent-2");
    site.stays_out(&gone.agent(), "does not know the token");

    // SPIRE's own agent on the same machine is the same node.
    drop(agent);
    if needs::spire("spire-agent").is_some()
        && let Some(commands) = Commands::at(site.server.socket())
    {
        let bundle = commands.bundle();
        let joining = Joining {
            trust_domain: "writ.local",
            address: site.server.address(),
            bundle: &bundle,
            token: "",
        };
        let token = &pod.token;
        let plugin = format!(
            "NodeAttestor \"k8s_psat\" {{ plugin_data {{ cluster = \"prod\" token_path = {token:?} }} }}"
        );
        let agent = site.cluster.inside(|| spire::Agent::attest(joining, &plugin));
        let Some(agent) = agent else { return };
        served(&agent.workload_socket(), "/pod", || agent.log()).await;
        assert_eq!(site.nodes().len(), 1);
        let _ = site.server.run(&["node", "ban", &node]).done();
    } else {
        let _ = site.server.run(&["node", "ban", &node]).done();
    }
    let log = site.turned_away(&pod.agent());
    assert!(log.contains("this node is banned"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_an_identity_by_its_selectors_on_a_node_that_the_cluster_vouches_for() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.namespace("spire", &json!({}));
    ["agent", "server"].iter().for_each(|name| cluster.service_account("spire", name));
    cluster.allow(
        "spire",
        "server",
        &json!([
            may("authentication.k8s.io", "tokenreviews", "create"),
            may("", "pods", "get"),
            may("", "nodes", "get")
        ]),
    );
    cluster.allow("spire", "agent", &json!([may("", "nodes/proxy", "get"), may("", "nodes/pods", "get")]));
    let config = format!(
        "[node_attestors.k8s_psat.clusters.prod]\nservice_account_allow_list = [\"spire:agent\"]\n\
         kube_config_file = {:?}\n",
        cluster.kubeconfig("spire", "server"),
    );
    let server = cluster.inside(|| Server::start(&config));
    let site = Site { server, cluster };
    let pod = Pod::new(&site.cluster, "agent", "agent-1", "spire-server");
    let asks = site.cluster.service_account_token("spire", "agent", None, None);
    let asks = site.cluster.folder().write("asks.token", asks);
    let authority = site.cluster.authority();
    let agent = site.agent(&format!(
        "{}[attestors.k8s]\nkubelet_ca = {authority:?}\napi_server = {:?}\napi_server_ca = {authority:?}\ntoken_file = {asks:?}\n",
        pod.agent(),
        cluster::API,
    ));
    // Which nodes, and there which pods: both are what Kubernetes says.
    let entry = ["entry", "create", "--spiffe-id", "/shop", "--parent", "k8s_psat:cluster:prod"];
    let which = ["--selector", "k8s:ns:default", "--selector", "k8s:pod-label:app:shop"];
    let _ = site.server.run(&[&entry[..], &which[..]].concat()).done();
    let public = agent.file("public");
    let workload = |name: &str, app: &str| {
        site.cluster.run(
            "default",
            name,
            &json!({ "labels": { "app": app } }),
            &json!({ "volumes": [{ "name": "identities", "hostPath": { "path": public, "type": "Directory" } }] }),
            &json!({ "volumeMounts": [{ "name": "identities", "mountPath": "/identities" }] }),
        )
    };
    let (shop, other) = (workload("shop", "shop"), workload("other", "other"));
    let ask = |pod: &Container| -> Value {
        let fetch = ["/test-workload", "fetch", "/identities/workload.sock"];
        let answer = Answer::of(&mut site.cluster.exec(pod, &fetch));
        serde_json::from_str(&answer.out)
            .unwrap_or_else(|_| panic!("no answer: {}{}", answer.out, answer.err))
    };
    eventually(&format!("the pod has its identity\n{}", agent.log()), BACK, || {
        (ask(&shop)["ids"] == json!(["spiffe://writ.local/shop"])).then_some(())
    });
    assert_eq!(ask(&other)["code"], "PermissionDenied");
}
