//! A Kubernetes cluster of one node, of Kubernetes' own programs: etcd, the API server, containerd and
//! the kubelet, with real pods.
//!
//! All of it lives in a network, mount and process namespace of its own, and ends with the process that
//! began the namespaces: nothing of it is to be seen on the host's network, and a test that is killed
//! leaves no process. There is one at a time, since they share the host's cgroups. There is no scheduler
//! and no controller: whoever makes a pod says on which node ([`NODE`]), and pods use the node's network.

mod api;
mod image;
mod keys;
mod parts;
mod space;

use std::ffi::OsStr;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use self::keys::Keys;
use self::parts::Part;
use self::space::Space;
use crate::folder::Folder;
use crate::needs;
use crate::running::{eventually, pid};
use crate::spire::PATIENCE;
use crate::writ::Answer;

/// The only node's name.
pub const NODE: &str = "node1";

/// An image with `/test-workload`, which waits for its end unless a pod says what else it does.
pub const IMAGE: &str = "writ.test/workload:1";

/// The API server, for whoever is inside.
pub const API: &str = "https://127.0.0.1:6443";

/// The kubelet, for whoever is inside.
pub const KUBELET: &str = "https://127.0.0.1:10250";

/// The same without TLS and for everybody inside.
pub const KUBELET_READ_ONLY: &str = "http://127.0.0.1:10255";

/// A cluster; it ends, and everything of it is removed, when dropped.
#[derive(Debug)]
pub struct Cluster {
    // In this order they end: what is inside, then the space, then the files.
    kubelet: Option<Part>,
    parts: Vec<Part>,
    space: Space,
    keys: Keys,
    folder: Folder,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub struct Container {
    /// The container's ID, 64 digits.
    pub id: String,
    /// The pod's UID.
    pub pod_uid: String,
    /// What the API server says of the pod.
    pub pod: Value,
}

impl Cluster {
    /// Starts one and waits until its node is ready; `None` where the machine lacks something.
    #[must_use]
    pub fn start() -> Option<Self> {
        let found = needs::root()
            && needs::program("etcd", "etcd-server")
            && needs::program("containerd", "containerd")
            && needs::program("runc", "runc")
            && needs::program("ip", "iproute2")
            && needs::program("nsenter", "util-linux");
        let (api_server, kubelet) = (needs::kubernetes("kube-apiserver")?, needs::kubernetes("kubelet")?);
        if !found {
            return None;
        }
        let folder = Folder::new();
        let keys = Keys::make(&folder.join("keys"));
        let space = Space::open(folder.path());
        let mut cluster = Self { kubelet: None, parts: Vec::new(), space, keys, folder };
        cluster.parts.push(parts::etcd(&cluster.space, &cluster.folder));
        cluster.parts.push(parts::containerd(&cluster.space, &cluster.folder));
        cluster.parts.push(parts::api_server(&api_server, &cluster.space, &cluster.folder, &cluster.keys));
        cluster.import(&image::of_test_workload(&cluster.folder));
        eventually("the API server is ready", PATIENCE, || {
            (cluster.try_get("/readyz").0 == 200).then_some(())
        });
        cluster.kubelet = Some(parts::kubelet(&kubelet, &cluster.space, &cluster.folder, &cluster.keys));
        cluster.namespace("default", &json!({}));
        cluster.wait("/api/v1/nodes/node1", "its node is ready", |node| {
            condition(&node["status"], "Ready") == Some("True")
        });
        Some(cluster)
    }

    /// Makes a namespace with these labels, with its service account `default` and the configuration map
    /// that every pod with a token is given.
    pub fn namespace(&self, name: &str, labels: &Value) {
        let kind = |kind: &str| json!({ "apiVersion": "v1", "kind": kind });
        let mut namespace = kind("Namespace");
        namespace["metadata"] = json!({ "name": name, "labels": labels });
        self.apply(&namespace);
        let mut map = kind("ConfigMap");
        map["metadata"] = json!({ "name": "kube-root-ca.crt", "namespace": name });
        map["data"] = json!({ "ca.crt": fs::read_to_string(self.authority()).expect("we wrote it") });
        self.apply(&map);
        self.service_account(name, "default");
    }

    /// Makes a service account.
    pub fn service_account(&self, namespace: &str, name: &str) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": namespace },
        }));
    }

    /// Lets a service account do what the cluster role says: its rules, as in RBAC's objects.
    pub fn allow(&self, namespace: &str, service_account: &str, rules: &Value) {
        let name = format!("{namespace}-{service_account}");
        let group = "rbac.authorization.k8s.io";
        let version = format!("{group}/v1");
        self.apply(&json!({
            "apiVersion": version, "kind": "ClusterRole", "metadata": { "name": name }, "rules": rules,
        }));
        self.apply(&json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": { "name": name },
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": service_account, "namespace": namespace }],
        }));
    }

    /// A token of a service account for an audience (the API server's own, if none is named), bound to
    /// a pod where one is named.
    #[must_use]
    pub fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        pod: Option<&Container>,
        audience: Option<&str>,
    ) -> String {
        let bound = pod.map(|container| {
            json!({ "apiVersion": "v1", "kind": "Pod", "name": container.pod["metadata"]["name"],
                    "uid": container.pod_uid })
        });
        let audiences: Vec<_> = audience.into_iter().collect();
        let spec = json!({ "audiences": audiences, "expirationSeconds": 3600, "boundObjectRef": bound });
        let answer = self.post(
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"),
            &json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec }),
        );
        answer["status"]["token"].as_str().expect("the API server makes tokens").to_owned()
    }

    /// The issuer of the tokens. It answers at `/.well-known/openid-configuration` and
    /// `/openid/v1/jwks`, to authenticated service accounts.
    #[must_use]
    pub fn issuer(&self) -> &'static str {
        API
    }

    /// The keys by which tokens can be verified.
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.get("/openid/v1/jwks")
    }

    /// The certificate of the authority that vouches for the API server and the kubelet.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.keys.file("ca.pem")
    }

    /// A kubeconfig file of a service account.
    #[must_use]
    pub fn kubeconfig(&self, namespace: &str, service_account: &str) -> PathBuf {
        let token = self.service_account_token(namespace, service_account, None, None);
        let name = format!("{namespace}-{service_account}.kubeconfig");
        self.folder.write(&name, keys::kubeconfig(&self.authority(), &json!({ "token": token })))
    }

    /// Makes a pod of one container, named as the pod, and waits until it runs. `more` replaces or adds
    /// members of the pod's metadata and specification; those of `container` add to the container.
    pub fn run(
        &self,
        namespace: &str,
        name: &str,
        metadata: &Value,
        spec: &Value,
        container: &Value,
    ) -> Container {
        let mut of_container = json!({ "name": name, "image": IMAGE, "imagePullPolicy": "Never" });
        merge(&mut of_container, container);
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "nodeName": NODE, "hostNetwork": true, "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0, "containers": [of_container],
            },
        });
        merge(&mut pod["metadata"], metadata);
        merge(&mut pod["spec"], spec);
        self.apply(&pod);
        self.running(namespace, name)
    }

    /// Waits until a pod runs, and describes its first container.
    #[must_use]
    pub fn running(&self, namespace: &str, name: &str) -> Container {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let pod = self.wait(&path, "the pod runs", |pod| pod["status"]["phase"] == "Running");
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().expect("it runs");
        Container {
            id: id.strip_prefix("containerd://").expect("containerd runs it").to_owned(),
            pod_uid: pod["metadata"]["uid"].as_str().expect("every object has one").to_owned(),
            pod,
        }
    }

    /// Removes a pod and waits until it is gone.
    pub fn remove(&self, namespace: &str, name: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0");
        self.request("DELETE", &path, None);
        eventually("the pod is gone", PATIENCE, || (self.try_get(&path).0 == 404).then_some(()));
    }

    /// A command inside a container, as another process of it: `kubectl exec`, which containerd does
    /// also while the kubelet is away.
    #[must_use]
    pub fn exec(&self, container: &Container, command: &[&str]) -> Command {
        let mut ctr = self.ctr();
        let number = EXECUTIONS.fetch_add(1, Ordering::Relaxed).to_string();
        ctr.args(["task", "exec", "--exec-id", &number, &container.id]).args(command);
        ctr
    }

    /// A command on the host, run as a process of the cgroup at `path`, which is made where it is not there:
    /// what root can do, and in its own cgroup whoever owns that.
    #[must_use]
    pub fn within(&self, path: &str, command: &[&OsStr]) -> Command {
        const ENTER: &str = r#"while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@""#;
        let mut shell = Command::new("sh");
        shell.args(["-ec", ENTER, "sh"]).args(space::make(path)).arg("--").args(command);
        shell
    }

    /// The process IDs of a container, as the host sees them.
    #[must_use]
    pub fn processes(&self, container: &Container) -> Vec<u32> {
        let listed = fs::read_to_string(self.cgroup(container).join("cgroup.procs")).unwrap_or_default();
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// A container's cgroup in the hierarchy of version 2.
    #[must_use]
    pub fn cgroup(&self, container: &Container) -> PathBuf {
        let pod = format!("kubepods/besteffort/pod{}", container.pod_uid);
        space::unified().join(pod).join(&container.id)
    }

    /// Does something on the cluster's network: what is started there stays there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.space.inside(work)
    }

    /// A connection to a port of the node.
    pub(crate) fn connect(&self, port: u16) -> std::io::Result<TcpStream> {
        self.inside(|| TcpStream::connect(("127.0.0.1", port)))
    }

    /// Ends the kubelet without warning; containers go on.
    pub fn kill_kubelet(&mut self) {
        let kubelet = self.kubelet.take().expect("it runs");
        kill(pid(kubelet.pid()), Signal::SIGKILL).expect("we started it");
        kubelet.ended();
    }

    /// Starts the kubelet again.
    pub fn start_kubelet(&mut self) {
        let program = needs::kubernetes("kubelet").expect("it was there");
        self.kubelet = Some(parts::kubelet(&program, &self.space, &self.folder, &self.keys));
    }

    /// Its own folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn ctr(&self) -> Command {
        let mut command = self.space.command(Path::new("ctr"));
        command.arg("--address").arg(parts::containerd_socket(&self.folder)).args(["--namespace", "k8s.io"]);
        command
    }

    fn import(&self, archive: &Path) {
        eventually("containerd takes the image", PATIENCE, || {
            let answer = Answer::of(self.ctr().args(["images", "import"]).arg(archive));
            (answer.code == 0).then_some(())
        });
    }
}

/// So that each has another name.
static EXECUTIONS: AtomicU32 = AtomicU32::new(0);

/// The status of a condition of a node or a pod.
#[must_use]
pub fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

fn merge(into: &mut Value, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}
