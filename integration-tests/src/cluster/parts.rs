//! How each program of a cluster is started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::keys::Keys;
use super::space::{Space, child_of};
use super::{API, IMAGE, NODE};
use crate::folder::Folder;
use crate::running::Running;

/// A program inside, below the one that brought it there.
#[derive(Debug)]
pub(super) struct Part {
    running: Running,
    pid: u32,
}

impl Part {
    fn start(command: &mut Command, name: &str, folder: &Folder) -> Self {
        let running = Running::start(command, name, folder.path());
        let pid = child_of(running.pid());
        Self { running, pid }
    }

    /// The program's own process, as the host sees it.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end.
    pub(super) fn ended(mut self) {
        self.running.ended(Duration::from_secs(60));
    }
}

pub(super) fn containerd_socket(folder: &Folder) -> PathBuf {
    folder.join("containerd.sock")
}

pub(super) fn etcd(space: &Space, folder: &Folder) -> Part {
    let mut command = space.command(Path::new("etcd"));
    command.arg("--data-dir").arg(folder.join("etcd")).args([
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
    ]);
    Part::start(&mut command, "etcd", folder)
}

pub(super) fn containerd(space: &Space, folder: &Folder) -> Part {
    // Without CAP_SYS_RESOURCE a sandbox gets no lower score than its parent's.
    let config = format!(
        "version = 2
root = {root:?}
state = {state:?}
disabled_plugins = [\"io.containerd.internal.v1.opt\", \"io.containerd.snapshotter.v1.aufs\",
  \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.zfs\"]
[grpc]
  address = {socket:?}
[plugins.\"io.containerd.grpc.v1.cri\"]
  sandbox_image = {IMAGE:?}
  restrict_oom_score_adj = true
  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
    runtime_type = \"io.containerd.runc.v2\"
",
        root = folder.join("containerd"),
        state = folder.join("containerd-state"),
        socket = containerd_socket(folder),
    );
    let config = folder.write("containerd.toml", config);
    let mut command = space.command(Path::new("containerd"));
    command.arg("--config").arg(config);
    Part::start(&mut command, "containerd", folder)
}

pub(super) fn api_server(program: &Path, space: &Space, folder: &Folder, keys: &Keys) -> Part {
    let mut command = space.command(program);
    let file = |flag: &str, name: &str| format!("--{flag}={}", keys.file(name).display());
    command.args([
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--advertise-address=10.78.0.1".to_owned(),
        "--service-cluster-ip-range=10.79.0.0/24".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--cert-dir={}", folder.path().display()),
        file("tls-cert-file", "api-server.pem"),
        file("tls-private-key-file", "api-server.key"),
        file("client-ca-file", "ca.pem"),
        file("kubelet-certificate-authority", "ca.pem"),
        file("kubelet-client-certificate", "admin.pem"),
        file("kubelet-client-key", "admin.key"),
        format!("--service-account-issuer={API}"),
        format!("--service-account-jwks-uri={API}/openid/v1/jwks"),
        file("service-account-key-file", "tokens.pub"),
        file("service-account-signing-key-file", "tokens.key"),
    ]);
    Part::start(&mut command, "kube-apiserver", folder)
}

pub(super) fn kubelet(program: &Path, space: &Space, folder: &Folder, keys: &Keys) -> Part {
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false }, "webhook": { "enabled": true },
            "x509": { "clientCAFile": keys.file("ca.pem") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": keys.file("kubelet.pem"), "tlsPrivateKeyFile": keys.file("kubelet.key"),
        "port": 10250, "readOnlyPort": 10255, "healthzPort": 0,
        "containerRuntimeEndpoint": format!("unix://{}", containerd_socket(folder).display()),
        "cgroupDriver": "cgroupfs", "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [], "failSwapOn": false, "failCgroupV1": false,
        "localStorageCapacityIsolation": false, "makeIPTablesUtilChains": false,
        "evictionHard": { "nodefs.available": "1%", "imagefs.available": "1%" },
        "resolvConf": "", "podLogsDir": folder.join("logs"), "volumePluginDir": folder.join("plugins"),
    });
    let config = folder.write("kubelet.json", config.to_string());
    let mut command = space.command(program);
    command.arg("--config").arg(config).arg("--kubeconfig").arg(keys.file("kubeconfig"));
    command.arg("--root-dir").arg(folder.join("kubelet"));
    command.args(["--node-ip=10.78.0.1", &format!("--hostname-override={NODE}")]);
    Part::start(&mut command, "kubelet", folder)
}
