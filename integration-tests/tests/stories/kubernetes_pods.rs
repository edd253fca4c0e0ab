//! Real pods, on a node with Kubernetes' own kubelet.

use integration_tests::cluster::{Cluster, Container};
use serde_json::json;

#[test]
fn a_pod_is_where_the_kubelet_put_it_and_has_a_token_of_its_own() {
    let Some(cluster) = Cluster::start() else { return };
    let none = json!({});
    let pod = cluster.run("default", "one", &none, &none, &none);
    let [process] = cluster.processes(&pod)[..] else { panic!("one process runs in it") };
    let cgroups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).expect("it runs");
    let Container { id, pod_uid, .. } = &pod;
    for line in cgroups.lines() {
        assert!(line.ends_with(&format!("/kubepods/besteffort/pod{pod_uid}/{id}")), "{cgroups}");
    }
    let token = cluster.service_account_token("default", "default", Some(&pod), Some("writ"));
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": { "token": token, "audiences": ["writ"] },
    });
    let status = cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", &review)["status"].clone();
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/pod-uid"], json!([pod_uid]), "{status}");
    assert_eq!(
        status["user"]["extra"]["authentication.kubernetes.io/node-name"],
        json!(["node1"]),
        "{status}"
    );
}
