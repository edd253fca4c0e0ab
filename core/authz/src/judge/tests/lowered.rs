//! Section 6, lowering: what an owner's transformer takes off data, and never off a task.

use registry::{
    objects::{Object, Sha256},
    scope::Label,
};
use serde_json::{Value, json};

use super::{secret, untrusted};
use crate::{
    Chain, Decision, Lowered, Permit, Situation, ToolCall, Verdict, World, judge, labels::Patterns,
    testing::*,
};

/// A desk whose tools tell, or keep, nothing of what was paid.
fn desk(drop: &Value, pinned: Option<&str>) -> Object {
    let tool = |effect: &str| {
        let mut tool = json!({ "effect": effect, "declassifies": drop, "label": { "categories": ["desk"] } });
        if let Some(digest) = pinned {
            tool["definition_sha256"] = digest.repeat(32).into();
        }
        tool
    };
    resource(json!({
        "name": "files", "tenant": "acme", "stateful": true,
        "clearance": { "confidentiality": 3, "categories": ["pay", "desk"] },
        "tools": { "size": tool("read"), "redact": tool("write"), "write": { "effect": "write" } },
    }))
}

fn owned(name: &str, categories: &[&str]) -> Object {
    let tenant = json!({ "name": name, "categories": categories, "created_at": "2026-01-01T00:00:00Z" });
    Object::Tenant(serde_json::from_value::<registry::objects::Tenant>(tenant).unwrap().into())
}

fn with(objects: impl IntoIterator<Item = Object>) -> World {
    let mut world = world();
    world.put(&owned("acme", &["pay", "desk"]));
    objects.into_iter().for_each(|object| world.put(&object));
    world.settle();
    world
}

fn pay() -> Value {
    json!({ "confidentiality": { "from": 2, "to": 0 }, "categories": ["pay"] })
}

fn shown(tool: &str, digest: &str) -> ToolCall {
    call(tool, json!({})).defined_as(digest.repeat(32).parse::<Sha256>().unwrap())
}

fn desks() -> Label {
    Label { categories: ["desk".parse().unwrap()].into(), ..Label::default() }
}

/// A call of a task, of a store in which somebody left a secret.
fn asked(chain: &mut Chain, world: &World, call: &ToolCall) -> Verdict {
    let (good, stored) = (Good::default(), secret());
    judge(chain, &id(1), world, &Situation { stored: &stored, ..good.situation() }, call, NOW)
}

#[test]
fn what_a_transformer_answers_has_its_stores_label_less_the_drop_and_its_own() {
    let world = with([desk(&pay(), Some("ab"))]);
    let (mut chain, size) = (chain(), shown("files/size", "ab"));
    let verdict = asked(&mut chain, &world, &size);
    assert_eq!((verdict.code(), &verdict.result), (None, &desks()));
    let Some(Lowered { from, to, .. }) = verdict.lowers() else { panic!("{verdict:?}") };
    assert_eq!((from, to), (&secret(), &Label::default()));
    let permit = Permit::from_record(verdict, durable(), NOW).unwrap();
    let spent = permit.spend(&size, NOW).unwrap();
    let none = Label::default();
    assert_eq!(spent.carries(&secret(), &none), desks(), "also when the answer comes");
    let more = secret().join(&untrusted());
    assert_eq!(
        spent.carries(&more, &none),
        desks().join(&untrusted()),
        "what came meanwhile was not recorded"
    );
    let top = Label { confidentiality: 3.try_into().unwrap(), ..Label::default() };
    assert_eq!(spent.carries(&top, &none).confidentiality, top.confidentiality);
    let found = Patterns::compile([("5000".to_owned(), secret())]).unwrap();
    assert_eq!(
        spent.carries(&secret(), &found.found_in(b"5000")),
        desks().join(&secret()),
        "what it let through is found"
    );
}

#[test]
fn what_a_transformer_keeps_is_lowered_and_the_task_that_told_it_is_not() {
    let world = with([desk(&pay(), Some("ab"))]);
    let mut chain = chain();
    chain.raise(&id(1), &secret().join(&untrusted()));
    let verdict = ask(&mut chain, &world, &shown("files/redact", "ab"));
    let Decision::Permit { stores: Some(stored), .. } = &verdict.decision else { panic!("{verdict:?}") };
    assert_eq!(stored.label, untrusted(), "a source that is not named stays");
    assert_eq!(verdict.label, secret().join(&untrusted()));
    assert_eq!(chain.label(&id(1)), Some(&secret().join(&untrusted())), "memory does not forget");
    let raised = chain.release(&id(1), &verdict.result, NOW).unwrap();
    assert!(raised.iter().all(|raised| secret().is_within(&raised.label)));
    let plain = ask(&mut chain, &world, &call("files/write", json!({})));
    let Decision::Permit { stores: Some(stored), lowers: None, .. } = plain.decision else {
        panic!("{plain:?}")
    };
    assert!(secret().is_within(&stored.label), "another tool of the same owner drops nothing");
}

#[test]
fn a_transformer_drops_nothing_with_another_definition_or_with_none() {
    for (approved, call) in [
        (Some("ab"), shown("files/size", "cd")),
        (Some("ab"), call("files/size", json!({}))),
        (None, shown("files/size", "ab")),
    ] {
        let verdict = asked(&mut chain(), &with([desk(&pay(), approved)]), &call);
        assert!(verdict.lowers().is_none(), "{approved:?}");
        assert!(secret().is_within(&verdict.result), "{approved:?}");
        assert_eq!(verdict.denial().is_some(), approved.is_some());
    }
}

#[test]
fn what_is_not_the_owners_alone_stays_whoever_says_otherwise() {
    let others = |label: Value| {
        resource(json!({
            "name": "shop", "tenant": "other", "tools": { "list": { "effect": "read", "label": label } },
        }))
    };
    let lowers = |objects: Vec<Object>| {
        let world = with(objects.into_iter().chain([desk(&pay(), Some("ab"))]));
        asked(&mut chain(), &world, &shown("files/size", "ab")).result
    };
    assert_eq!(lowers(vec![others(json!({}))]), desks());
    assert_eq!(lowers(vec![owned("other", &["pay"])]), desks().join(&secret()), "a category of two tenants");
    let level = lowers(vec![others(json!({ "confidentiality": 1 }))]);
    let two = Label { confidentiality: 2.try_into().unwrap(), ..Label::default() };
    assert_eq!(level, desks().join(&two), "a level may be another's secret");
    assert_eq!(lowers(vec![owned("acme", &["desk"])]), desks().join(&secret()), "a category of nobody");
}
