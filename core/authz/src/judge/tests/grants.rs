//! Steps 6 and 7: what was granted, and what a tool is.

use std::sync::Arc;

use registry::objects::{Reason, Sha256};
use serde_json::{Value, json};

use crate::{Chain, Code, chain::Standing, testing::*};

/// A chain whose task has these rules.
fn scoped(scope: Value) -> Chain {
    let mut grant = grant(1, None);
    grant.scope = serde_json::from_value(scope).unwrap();
    Chain::begin(Arc::new(grant), Standing::default(), NOW)
}

#[test]
fn a_tool_that_is_not_in_scope_or_not_there_is_denied() {
    let mut chain = scoped(json!([{ "tool": "files/read" }, { "tool": "files/nothing" }]));
    let world = world();
    assert_eq!(ask(&mut chain, &world, &call("files/read", json!({}))).code(), None);
    assert_eq!(ask(&mut chain, &world, &call("files/secret", json!({}))).code(), Some(Code::OutOfScope));
    assert_eq!(ask(&mut chain, &world, &call("files/nothing", json!({}))).code(), Some(Code::UnknownTool));
}

/// Attack A3: the tool is allowed, its arguments are not.
#[test]
fn an_argument_that_no_rule_allows_is_denied() {
    let world = world();
    let rules = json!([
        { "tool": "files/read", "args": { "path": [{ "under": "/srv" }], "limit": ["optional", { "at_most": 9 }] } },
        { "tool": "files/read", "args": { "path": [{ "equals": "/etc/motd" }] } },
    ]);
    for (arguments, code) in [
        (json!({ "path": "/srv/a" }), None),
        (json!({ "path": "/etc/motd" }), None),
        (json!({ "path": ["/srv/a", "/srv/b"], "limit": 9.0 }), None),
        (json!({ "path": ["/srv/a", "/etc/motd"] }), Some(Code::ArgumentOutOfScope)),
        (json!({ "path": "/srv/../etc/shadow" }), Some(Code::ArgumentOutOfScope)),
        (json!({ "path": { "$ref": "/srv/a" } }), Some(Code::ArgumentOutOfScope)),
        (json!({ "path": "/srv/a", "limit": 10 }), Some(Code::ArgumentOutOfScope)),
        (json!({ "path": "/srv/a", "limit": 8.5 }), Some(Code::ArgumentOutOfScope)),
        (json!({ "path": "/etc/motd", "limit": 1 }), Some(Code::ArgumentOutOfScope)),
        (json!({ "path": "/srv/a", "follow": true }), Some(Code::ArgumentOutOfScope)),
        (json!({}), Some(Code::ArgumentOutOfScope)),
    ] {
        let verdict = ask(&mut scoped(rules.clone()), &world, &call("files/read", arguments.clone()));
        assert_eq!(verdict.code(), code, "{arguments}");
    }
}

#[test]
fn data_above_the_grants_maximum_is_not_asked_for_and_not_released() {
    let (mut chain, world) = (chain(), world());
    assert_eq!(ask(&mut chain, &world, &call("files/top", json!({}))).code(), Some(Code::DataMaxExceeded));
    let found = registry::scope::Label {
        confidentiality: registry::scope::Confidentiality::MAX,
        ..Default::default()
    };
    assert_eq!(chain.release(&id(1), &found, NOW).unwrap_err().code, Code::DataMaxExceeded);
    assert_eq!(chain.label(&id(1)), Some(&Default::default()), "what was not released was not read");
}

#[test]
fn a_definition_is_the_approved_one_or_nothing() {
    let (mut chain, world) = (chain(), world());
    let approved = "ab".repeat(32).parse::<Sha256>().unwrap();
    let pinned = call("files/pinned", json!({}));
    assert_eq!(ask(&mut chain, &world, &pinned.clone().defined_as(approved)).code(), None);
    for other in [pinned.clone(), pinned.defined_as(Sha256::of(b"other"))] {
        assert_eq!(ask(&mut chain, &world, &other).code(), Some(Code::ToolDefinitionChanged));
    }
}

#[test]
fn actions_are_spent_when_they_are_judged() {
    let mut grant = grant(1, None);
    grant.budget.actions = 2;
    let mut chain = Chain::begin(Arc::new(grant), Standing::default(), NOW);
    let (world, read) = (world(), call("files/read", json!({})));
    let codes: Vec<_> = (0..3).map(|_| ask(&mut chain, &world, &read).code()).collect();
    assert_eq!(codes, [None, None, Some(Code::BudgetSpent)]);
    let standing = chain.standing(&id(1)).unwrap();
    assert_eq!((standing.spent.reads, standing.spent.denials, standing.seq), (2, 0, 3));
}

/// Attack A4: trying variations ends.
#[test]
fn one_denial_too_many_suspends_the_task_and_environments_fault_counts_for_nothing() {
    let (mut chain, world) = (chain(), world());
    let good = Good::default();
    for _ in 0..10 {
        let stale = crate::Situation { head: None, ..good.situation() };
        crate::judge(&mut chain, &id(1), &world, &stale, &call("files/read", json!({})), NOW);
    }
    for attempt in 0..3 {
        let verdict = ask(&mut chain, &world, &call("payroll/read", json!({ "n": attempt })));
        assert_eq!(verdict.code(), Some(Code::UnregisteredEnforcementPoint), "nobody guards that");
        let verdict = ask(&mut chain, &world, &call("files/nothing", json!({ "n": attempt })));
        assert_eq!((verdict.code(), verdict.suspended), (Some(Code::UnknownTool), vec![]));
    }
    let verdict = ask(&mut chain, &world, &call("files/nothing", json!({})));
    assert_eq!(verdict.suspended, [id(1)]);
    assert_eq!(ask(&mut chain, &world, &call("files/read", json!({}))).code(), Some(Code::TaskSuspended));
    assert_eq!(*chain.tasks().next().unwrap().1, crate::chain::State::Suspended(Reason::Probing));
}

#[test]
fn a_tool_is_visible_where_it_could_be_called_and_looking_spends_nothing() {
    let chain = scoped(json!([{ "tool": "files/read" }, { "tool": "files/pinned" }]));
    let (world, good) = (world(), Good::default());
    let visible =
        |call: &crate::ToolCall| crate::visible(&chain, &id(1), &world, &good.situation(), call, NOW);
    assert!(visible(&call("files/read", json!({}))));
    assert!(!visible(&call("files/write", json!({}))), "not in scope");
    assert!(!visible(&call("files/pinned", json!({}))), "not as approved");
    assert!(visible(&call("files/pinned", json!({})).defined_as("ab".repeat(32).parse().unwrap())));
    assert_eq!(chain.standing(&id(1)).unwrap().seq, 0);
}
