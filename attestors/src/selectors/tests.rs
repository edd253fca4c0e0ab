//! What authors of entries are told.

use super::*;

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts.iter().map(|text| text.parse().expect("a selector")).collect()
}

fn of(texts: &[&str]) -> Vec<String> {
    warnings(&selectors(texts)).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn warns(texts: &[&str], part: &str) {
    let warnings = of(texts);
    assert!(warnings.iter().any(|warning| warning.contains(part)), "{part:?} is not in {warnings:?}");
}

fn mistake(text: &str, about: About) -> Option<String> {
    let selector = text.parse().expect("a selector");
    Vocabulary::default().check(&selector, about).err().map(|mistake| mistake.to_string())
}

#[track_caller]
fn is_refused(text: &str, part: &str) {
    let says = mistake(text, About::Processes).unwrap_or_else(|| panic!("{text} is accepted"));
    assert!(says.contains(part), "{part:?} is not in {says:?}");
}

#[track_caller]
fn is_accepted(text: &str) {
    assert_eq!(mistake(text, About::Processes), None, "{text}");
}

#[test]
fn path_and_hash_alone_are_weak_and_beside_a_uid_they_are_not() {
    let hash = format!("unix:sha256:{}", "a".repeat(64));
    warns(&["unix:path:/opt/triage"], "what a process can pretend");
    warns(&["unix:path:/opt/triage", &hash], "what a process can pretend");
    warns(&["process:parent:/usr/sbin/cron", "binary:build_id:ab"], "what a process can pretend");
    assert_eq!(of(&["unix:path:/opt/triage", &hash, "unix:uid:1000"]), [""; 0]);
    assert_eq!(of(&["unix:path:/opt/triage", "systemd:id:triage.service"]), [""; 0]);
    assert_eq!(of(&["unix:user:triage"]), [""; 0]);
    assert_eq!(of(&[]), [""; 0]);
}

#[test]
fn an_interpreter_is_named() {
    for path in ["/usr/bin/python3.11", "/usr/bin/python3", "/bin/bash", "/usr/local/bin/node"] {
        warns(&[&format!("unix:path:{path}"), "unix:uid:1"], "is an interpreter");
    }
    assert_eq!(of(&["unix:path:/opt/nodes", "unix:uid:1"]), [""; 0]);
}

#[test]
fn two_values_of_what_a_process_has_once_contradict_each_other() {
    warns(&["unix:uid:5", "unix:gid:5", "unix:uid:6"], "no process has both unix:uid:5 and unix:uid:6");
    warns(&["unix:user:a", "unix:user:b"], "make an entry for each");
    warns(&["k8s:ns:a", "k8s:ns:b"], "no process has both");
    assert_eq!(of(&["unix:supplementary_gid:5", "unix:supplementary_gid:6"]), [""; 0]);
    assert_eq!(of(&["docker:label:a:1", "docker:label:b:2"]), [""; 0]);
    assert_eq!(of(&["unix:uid:5", "unix:gid:6"]), [""; 0]);
}

#[test]
fn what_only_agents_of_spire_give_may_stand_but_is_told() {
    for text in
        ["slurm:job_id:7", "windows:user_name:corp\\ann", "k8s:image-signature:verified", "k8s:kind:Job"]
    {
        is_accepted(text);
        warns(&[text], "only SPIRE's agents give it");
    }
}

#[test]
fn a_near_miss_is_refused_with_what_was_meant() {
    for (said, meant) in [
        ("unix:username:triage", "unix:user:triage"),
        ("unix:usr:triage", "unix:user:triage"),
        ("unix:suplementary_gid:4", "unix:supplementary_gid:4"),
        ("unx:uid:4", "unix:uid:4"),
        ("Unix:uid:4", "unix:uid:4"),
        ("UNIX:uid:0", "unix:uid:0"),
        ("unix:UID:0", "unix:uid:0"),
        ("unix:hash:ab", "unix:sha256:ab"),
        ("uid:4", "unix:uid:4"),
        ("k8:ns:default", "k8s:ns:default"),
        ("dokcer:label:a:b", "docker:label:a:b"),
        ("docker:image:x", "docker:image_id:x"),
        ("systemd:unit:web.service", "systemd:id:web.service"),
        ("k8s:pod_label:app:web", "k8s:pod-label:app:web"),
        ("k8s:serviceaccount:web", "k8s:sa:web"),
    ] {
        is_refused(said, &format!("did you mean {meant}?"));
    }
}

#[test]
fn what_resembles_nothing_is_refused_without_guessing() {
    is_refused("cloud:colour:blue", "other_selector_kinds");
    is_refused("unix:colour:blue", "it gives uid, user, gid");
    for text in ["cloud:colour:blue", "unix:colour:blue"] {
        assert!(!mistake(text, About::Processes).expect("refused").contains("did you mean"));
    }
    is_refused(&format!("unix:{}:x", "u".repeat(4000)), "gives no selectors such as");
    is_refused(&format!("{}:x", "ü".repeat(1000)), "no attestor gives");
}

#[test]
fn kinds_of_attestors_from_elsewhere_can_be_named() {
    let others = ["gpu".to_owned()];
    let vocabulary = Vocabulary { others: &others };
    for about in [About::Processes, About::Nodes] {
        let check = |text: &str| vocabulary.check(&text.parse().expect("a selector"), about);
        assert_eq!(check("gpu:anything"), Ok(()));
        assert!(check("cpu:anything").is_err());
    }
}

#[test]
fn a_value_that_nothing_has_is_refused() {
    is_refused("unix:uid:root", "unix:user:NAME");
    for id in ["007", "4294967295", "99999999999", "-1", "+1", ""] {
        is_refused(&format!("unix:uid:{id}"), "a uid is a number");
        is_refused(&format!("unix:gid:{id}"), "a gid is a number");
        is_refused(&format!("unix:supplementary_gid:{id}"), "a gid is a number");
    }
    is_refused("unix:path:bin/x", "has to be absolute");
    is_refused("unix:path:/x (deleted)", "a deleted file");
    is_refused(&format!("unix:sha256:{}", "A".repeat(64)), "lower-case");
    is_refused("unix:user", "the value is missing");
    is_refused("systemd:id:web", "a name and a kind");
    is_refused("docker:label:web", "KEY:VALUE");
    is_refused("docker:env:PATH", "NAME=VALUE");
    is_refused("docker:image_config_digest:abc", "sha256:");
    is_refused("k8s:pod-uid:7", "a UUID");
    is_refused("k8s:pod-image-count:two", "a number");
    is_refused("cgroup:path:system.slice", "absolute");
    is_refused("binary:build_id:abc", "hexadecimal");
    is_refused("launch:measurement:1", "64 digits");
    is_refused("windows:group_sid:S-1", "se_group_enabled");
}

#[test]
fn every_form_that_spire_documents_is_accepted() {
    for text in [
        "unix:uid:0",
        "unix:uid:4294967294",
        "systemd:id:getty@tty1.service",
        "systemd:fragment_path:/lib/systemd/system/web.service",
        "docker:label:com.example.name:foo",
        "docker:label:empty:",
        "docker:env:VAR=val=ue",
        "docker:image_id:envoyproxy/envoy:contrib-v1.29.1",
        "k8s:ns:production",
        "k8s:container-image:docker.io/library/web@sha256:abc",
        "k8s:pod-owner:ReplicaSet:web-7",
        "k8s:pod-uid:7e7e2b0c-41d7-4a59-9f7f-6f0c6f2f5b11",
        "windows:group_name:se_group_enabled:true:corp\\staff",
        "slurm:step:batch",
    ] {
        is_accepted(text);
    }
    for text in [
        "x509pop:subject:cn:example.org",
        "x509pop:ca:fingerprint:0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33",
        "x509pop:san:environment:production",
        "k8s_psat:agent_node_label:key:value",
        "aws_iid:image:id:ami-5fb8c835",
        "aws_iid:tag:name:blog",
        "gcp_iit:metadata:key:value",
        "azure_msi:vm-tag:environment:production",
        "spiffe_id:spiffe://acme.example/spire/agent/x",
        "join_token:abc",
        "tpm_devid:issuer:cn:authority.org",
    ] {
        assert_eq!(mistake(text, About::Nodes), None, "{text}");
    }
}

#[test]
fn facts_about_nodes_and_about_processes_are_not_mixed() {
    is_refused("x509pop:subject:cn:web", "make it the entry's parent");
    let says = mistake("unix:uid:0", About::Nodes).expect("refused");
    assert!(says.contains("no node has it"), "{says}");
}
