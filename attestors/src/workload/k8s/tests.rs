//! Pods as Kubernetes writes them, and as nobody should.

use serde_json::{Value, json};

use super::{follow, pods::Pod};
use crate::{Evidence, Wanted, cgroups::ContainerId};

const UID: &str = "7f4a1c1e-5c3e-4d31-9b39-9f3b2f4c6a10";

fn id(digit: &str) -> ContainerId {
    ContainerId::parse(&digit.repeat(64)).expect("an id")
}

fn container(name: &str, digit: &str) -> Value {
    json!({
        "name": name, "image": format!("acme.test/{name}:1"), "imageID": format!("sha256:{}", digit.repeat(64)),
        "containerID": format!("containerd://{}", digit.repeat(64)), "ready": true,
    })
}

/// A list as a kubelet of 1.34 gives it, of what is read and some more.
fn listed() -> Value {
    json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [{
        "metadata": {
            "name": "planner-0", "namespace": "agents", "uid": UID,
            "labels": { "app": "planner", "tier": "" },
            "annotations": { "kubernetes.io/config.seen": "2026-01-01T00:00:00Z" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "planner", "uid": "u-1" }],
        },
        "spec": { "serviceAccountName": "planner", "nodeName": "node1", "containers": [{}, {}] },
        "status": {
            "phase": "Running",
            "containerStatuses": [container("planner", "a"), container("sidecar", "b")],
            "initContainerStatuses": [container("prepare", "c")],
            "ephemeralContainerStatuses": [container("debug", "d")],
        },
    }] })
}

fn parse(list: &Value) -> Result<follow::List<Pod>, serde_json::Error> {
    follow::parse(&mut list.to_string().as_bytes())
}

fn told(list: &Value, container: &ContainerId, wanted: &Wanted) -> Vec<String> {
    let list = parse(list).expect("a list");
    let mut evidence = Evidence::default();
    list.objects[UID].tell(container, wanted, &mut evidence);
    evidence.selectors().map(ToString::to_string).collect()
}

#[test]
fn selectors_are_as_spire_has_them() {
    let hash = |digit: &str| digit.repeat(64);
    let expected = [
        "k8s:ns:agents",
        "k8s:sa:planner",
        "k8s:node-name:node1",
        "k8s:pod-name:planner-0",
        &format!("k8s:pod-uid:{UID}"),
        "k8s:pod-image-count:2",
        "k8s:pod-init-image-count:1",
        "k8s:pod-label:app:planner",
        "k8s:pod-label:tier:",
        "k8s:pod-owner:StatefulSet:planner",
        "k8s:pod-owner-uid:StatefulSet:u-1",
        "k8s:pod-image:acme.test/planner:1",
        "k8s:pod-image:acme.test/sidecar:1",
        &format!("k8s:pod-image:sha256:{}", hash("a")),
        &format!("k8s:pod-image:sha256:{}", hash("b")),
        "k8s:pod-init-image:acme.test/prepare:1",
        &format!("k8s:pod-init-image:sha256:{}", hash("c")),
        "k8s:container-name:planner",
        "k8s:container-image:acme.test/planner:1",
        &format!("k8s:container-image:sha256:{}", hash("a")),
    ];
    assert_eq!(told(&listed(), &id("a"), &Wanted::everything()), expected);
}

#[test]
fn a_container_has_its_own_name_and_only_what_an_entry_asks_for_is_told() {
    let name: spiffe::Selector = "k8s:container-name:any".parse().expect("a selector");
    let wanted: Wanted = [&name].into_iter().collect();
    assert_eq!(told(&listed(), &id("b"), &wanted), ["k8s:container-name:sidecar"]);
    assert_eq!(told(&listed(), &id("c"), &wanted), ["k8s:container-name:prepare"]);
}

#[test]
fn a_container_for_debugging_or_of_nobody_is_none_of_the_pod_s() {
    let list = parse(&listed()).expect("a list");
    let pod = &list.objects[UID];
    assert!(pod.has(&id("a")) && pod.has(&id("c")));
    assert!(!pod.has(&id("d")) && !pod.has(&id("e")));
}

#[test]
fn a_pod_that_has_not_begun_has_no_container_and_a_kubelet_may_have_no_pods() {
    let mut list = listed();
    list["items"][0]["status"] = json!({ "containerStatuses": [{ "name": "planner" }] });
    assert!(!parse(&list).expect("a list").objects[UID].has(&id("a")));
    list["items"][0].as_object_mut().expect("a pod").remove("status");
    assert!(!parse(&list).expect("a list").objects[UID].has(&id("a")));
    assert!(parse(&json!({ "items": null })).expect("a list").objects.is_empty());
}

#[test]
fn a_value_that_makes_no_selector_is_counted_and_not_repeated() {
    let mut list = listed();
    list["items"][0]["metadata"]["labels"] = json!({ "a": "one\nk8s:ns:kube-system", "b": "x".repeat(5000) });
    let list = parse(&list).expect("a list");
    let mut evidence = Evidence::default();
    list.objects[UID].tell(&id("a"), &Wanted::everything(), &mut evidence);
    assert_eq!(evidence.notes, ["2 labels or images of its pod make no selectors"]);
    assert!(evidence.selectors().all(|selector| !selector.value().starts_with("pod-label")));
}

#[test]
fn a_pod_listed_twice_and_anything_that_is_no_list_is_refused() {
    let mut twice = listed();
    let pod = twice["items"][0].clone();
    twice["items"].as_array_mut().expect("a list").push(pod);
    assert!(parse(&twice).is_err());
    let deep = "[".repeat(100_000);
    for text in ["", "null", "[]", "{}", r#"{"items":{}}"#, r#"{"items":[{}]}"#, &deep] {
        assert!(follow::parse::<Pod>(&mut text.as_bytes()).is_err(), "{text:.20}");
    }
    let whole = listed().to_string();
    for end in 0..whole.len() {
        assert!(follow::parse::<Pod>(&mut &whole.as_bytes()[..end]).is_err(), "cut off after {end} bytes");
    }
}

#[test]
fn a_pod_whose_uid_no_cgroup_can_have_is_left_out() {
    for uid in ["", "../7f4a1c1e", "podx"] {
        let mut list = listed();
        list["items"][0]["metadata"]["uid"] = json!(uid);
        assert!(parse(&list).expect("a list").objects.is_empty(), "{uid}");
    }
}
