//! Pods as Kubernetes writes them, and as nobody should.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    follow::{self, Told},
    gathered::Revised as _,
    pods::Pod,
};
use crate::{
    Evidence, Wanted,
    cgroups::{ContainerId, PodUid},
    fuzz::{JSON, changed},
};

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

#[test]
fn a_label_that_changed_contradicts_and_a_container_that_came_does_not() {
    let pod = |list: &Value| parse(list).expect("a list").objects.remove(UID).expect("it is there");
    let before = pod(&listed());
    assert!(!before.is_contradicted_by(&pod(&listed())));
    let mut later = listed();
    later["items"][0]["metadata"]["labels"]["app"] = json!("reviewer");
    assert!(before.is_contradicted_by(&pod(&later)));
    let mut later = listed();
    later["items"][0]["status"]["containerStatuses"][0]["image"] = json!("acme.test/other:1");
    assert!(before.is_contradicted_by(&pod(&later)));
    let mut young = listed();
    let statuses = young["items"][0]["status"]["containerStatuses"].as_array_mut().expect("a list");
    statuses[1]["containerID"] = json!("");
    assert!(!pod(&young).is_contradicted_by(&before), "the sidecar runs by now");
}

/// Whatever a kubelet or an API server says of a pod, it is said under the attestor's own name.
fn is_well_told(uid: &str, pod: &Pod) -> Result<(), TestCaseError> {
    prop_assert!(PodUid::parse(uid).is_some());
    for digit in ["a", "b", "c", "d"] {
        let mut evidence = Evidence::default();
        pod.tell(&id(digit), &Wanted::everything(), &mut evidence);
        prop_assert!(evidence.selectors().all(|selector| selector.kind() == super::KIND));
        let of_container = evidence.selectors().any(|selector| selector.value().starts_with("container-"));
        prop_assert!(!of_container || pod.has(&id(digit)));
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_list_of_pods_of_whatever_bytes_is_read_or_refused(bytes in changed("pods", JSON)) {
        let Ok(list) = follow::parse::<Pod>(&mut bytes.as_slice()) else { return Ok(()) };
        for (uid, pod) in &list.objects {
            is_well_told(uid, pod)?;
        }
    }

    #[test]
    fn a_line_of_a_watch_of_whatever_bytes_is_read_or_refused(bytes in changed("watch", JSON)) {
        if let Ok(Told::Change(uid, Some(pod))) = follow::told::<Pod>(&bytes) {
            is_well_told(&uid, &pod)?;
        }
    }
}

#[test]
fn of_the_corpus_of_watches_each_line_says_what_it_is_called() {
    let line = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/watch").join(name);
        follow::told::<Pod>(&std::fs::read(path).expect("it is there")).expect("it is understood")
    };
    assert!(matches!(line("added"), Told::Change(uid, Some(_)) if uid == UID));
    assert!(matches!(line("modified"), Told::Change(_, Some(_))));
    assert!(matches!(line("deleted"), Told::Change(_, None)));
    assert!(matches!(line("bookmark"), Told::Nothing));
    assert!(matches!(line("too-old"), Told::TheEnd));
}
