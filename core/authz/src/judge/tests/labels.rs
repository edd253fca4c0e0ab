//! Section 6: what a task may still tell after what it has read.

use std::sync::Arc;

use serde_json::json;

use super::{secret, untrusted};
use crate::{Chain, Code, Decision, Situation, chain::Standing, judge, testing::*};

/// Attack A1: a sensitive read, then a send.
#[test]
fn what_was_read_may_go_only_where_it_may() {
    let (mut chain, world) = (chain(), world());
    let send = call("mail/send", json!({ "to": "a@acme.example" }));
    assert_eq!(ask(&mut chain, &world, &send).code(), None);
    chain.release(&id(1), &secret(), NOW).unwrap();
    let verdict = ask(&mut chain, &world, &send);
    assert_eq!(verdict.code(), Some(Code::LabelExceedsClearance));
    assert!(!verdict.denial().unwrap().requestable);
    assert_eq!(ask(&mut chain, &world, &call("mail/inbox", json!({}))).code(), None, "reading tells nothing");
    assert_eq!(ask(&mut chain, &world, &call("files/write", json!({}))).code(), None, "files may know it");
}

#[test]
fn what_the_domain_remembers_counts_like_what_the_task_has_read() {
    let (world, good, known) = (world(), Good::default(), secret());
    let situation = Situation { domain: &known, ..good.situation() };
    let verdict = judge(&mut chain(), &id(1), &world, &situation, &call("mail/send", json!({})), NOW);
    assert_eq!(verdict.code(), Some(Code::LabelExceedsClearance));
}

/// Attack A2: untrusted text, then a change.
#[test]
fn after_untrusted_input_control_arguments_are_bound_or_a_person_is_asked() {
    let world = world();
    let tainted = |scope: serde_json::Value| {
        let mut grant = grant(1, None);
        grant.scope = serde_json::from_value(scope).unwrap();
        Chain::begin(Arc::new(grant), Standing { label: untrusted(), ..Standing::default() }, NOW)
    };
    let send = call("mail/send", json!({ "to": "a@acme.example", "text": "free" }));
    let bound =
        json!([{ "tool": "mail/send", "args": { "to": [{ "equals": "a@acme.example" }], "text": [] } }]);
    for (scope, code) in [
        (json!([{ "tool": "mail/send" }]), Some(Code::UnboundArgumentAfterUntrustedInput)),
        (
            json!([{ "tool": "mail/send", "args": { "to": [{ "max_bytes": 99 }], "text": [] } }]),
            Some(Code::UnboundArgumentAfterUntrustedInput),
        ),
        (bound.clone(), None),
        (json!([{ "tool": "mail/send" }, bound[0]]), None),
        (
            json!([
                { "tool": "mail/send" },
                { "tool": "mail/send", "args": { "to": [{ "equals": "b@acme.example" }], "text": [] } },
            ]),
            Some(Code::UnboundArgumentAfterUntrustedInput),
        ),
    ] {
        let verdict = ask(&mut tainted(scope.clone()), &world, &send);
        assert_eq!(verdict.code(), code, "{scope}");
        assert!(verdict.denial().is_none_or(|denial| denial.requestable), "a person may lift it");
    }
    let mut all = tainted(json!([{ "tool": "mail/*" }, { "tool": "files/*" }]));
    assert_eq!(ask(&mut all, &world, &call("mail/inbox", json!({}))).code(), None, "reads go on");
    let nowhere = call("files/write", json!({ "text": "without a path" }));
    assert_eq!(ask(&mut all, &world, &nowhere).code(), None, "only control arguments must be bound");
}

#[test]
fn a_child_narrows_what_its_parent_may_choose_and_an_ancestor_that_is_bound_does_not_bind_it() {
    let (mut chain, world) = (chain(), world());
    chain
        .delegate(Arc::new(grant(2, Some(1))), Standing { label: untrusted(), ..Standing::default() }, NOW)
        .unwrap();
    let good = Good::default();
    let verdict = judge(
        &mut chain,
        &id(2),
        &world,
        &good.situation(),
        &call("files/write", json!({ "path": "/x" })),
        NOW,
    );
    assert_eq!(verdict.code(), Some(Code::UnboundArgumentAfterUntrustedInput));
}

/// Attack A13: a note written by one, read by another.
#[test]
fn a_write_leaves_its_label_in_a_store_and_a_read_brings_it_along() {
    let (mut writer, world) = (chain(), world());
    writer.raise(&id(1), &secret());
    let verdict = ask(&mut writer, &world, &call("files/write", json!({ "path": "/note" })));
    let Decision::Permit { stores: Some(stored), .. } = verdict.decision else { panic!("{verdict:?}") };
    assert_eq!((stored.resource.as_str(), &stored.label), ("files", &secret()));

    let (good, mut reader) = (Good::default(), chain());
    let situation = Situation { stored: &stored.label, ..good.situation() };
    let verdict = judge(&mut reader, &id(1), &world, &situation, &call("files/read", json!({})), NOW);
    assert_eq!(verdict.result, secret());
    let stateless = ask(&mut writer, &world, &call("shop/list", json!({})));
    assert!(matches!(stateless.decision, Decision::Permit { stores: None, .. }));
}
