//! Steps 2 to 5: who asks, how fresh, which state, which domain.

use std::{sync::Arc, time::Duration};

use registry::{
    objects::{Object, Reason, Task},
    scope::{Effect, Isolation, Tier},
};
use serde_json::json;

use crate::{
    Chain, Code, Decision, Freshness, Situation, awaits_the_server, chain::Standing, judge, testing::*,
};

#[test]
fn what_is_in_scope_and_permitted_by_both_tenants_is_permitted_and_says_by_which_policies() {
    let verdict = ask(&mut chain(), &world(), &call("files/read", json!({ "path": "/a" })));
    let Decision::Permit { policies, stores, .. } = &verdict.decision else {
        panic!("{:?}", verdict.decision)
    };
    assert_eq!(policies.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["acme-lets", "acme-may"]);
    assert_eq!((stores, verdict.seq, verdict.effect, verdict.tier), (&None, 1, Effect::Read, Tier::T0));
}

/// Each row spoils one thing.
#[test]
fn each_fact_that_is_wrong_denies_with_its_own_code() {
    let good = Good::default();
    let other = Good {
        gate: "spiffe://acme.example/other".parse().unwrap(),
        environment: "dev".parse().unwrap(),
        ..Good::default()
    };
    let fine = good.situation();
    for (situation, code) in [
        (Situation { enforcement_point: &other.gate, ..fine }, Code::UnregisteredEnforcementPoint),
        (Situation { head: None, ..fine }, Code::Stale),
        (Situation { head: Some(NOW.boot + Duration::from_secs(1)), ..fine }, Code::Stale),
        (Situation { is_member: false, ..fine }, Code::NotAMember),
        (Situation { is_as_measured: false, ..fine }, Code::MeasurementChanged),
        (Situation { environment: &other.environment, ..fine }, Code::EnvironmentChanged),
        (Situation { isolation: Isolation::Shared, ..fine }, Code::IsolationWeakened),
    ] {
        let verdict = judge(&mut chain(), &id(1), &world(), &situation, &call("files/read", json!({})), NOW);
        assert_eq!(verdict.code(), Some(code), "{situation:?}");
    }
    let verdict = judge(&mut chain(), &id(9), &world(), &fine, &call("files/read", json!({})), NOW);
    assert_eq!((verdict.code(), verdict.seq), (Some(Code::NoTask), 0));
}

#[test]
fn freshness_is_asked_by_tier_and_tier_3_needs_the_servers_word() {
    let good = Good::default();
    let mut world = world();
    world.put(&policy("platform/defaults", "// Everything is lowered for this test."));
    world.settle();
    let code = |tool: &str, situation: &Situation<'_>, now| {
        judge(&mut chain(), &id(1), &world, situation, &call(tool, json!({})), now).code()
    };
    let situation = good.situation();
    for (tool, limit) in [("files/read", 10), ("mail/send", 10), ("mail/erase", 5), ("mail/buy", 5)] {
        assert_eq!(code(tool, &situation, later(limit)), None, "{tool}");
        assert_eq!(code(tool, &situation, later(limit + 1)), Some(Code::Stale), "{tool}");
    }
    assert_eq!(code("mail/buy", &Situation { confirmed: false, ..situation }, NOW), Some(Code::Stale));
    let long = Freshness { tier_0: Duration::from_secs(3600), ..Freshness::default() };
    let configured = Situation { freshness: long, ..situation };
    assert_eq!(code("files/read", &configured, later(60)), None);
    assert_eq!(
        code("files/read", &configured, later(61)),
        Some(Code::Stale),
        "a minute is the most for tier 0"
    );
}

#[test]
fn the_server_is_asked_only_about_a_call_of_tier_3_that_nothing_else_denies() {
    let good = Good::default();
    let mut world = world();
    world.put(&policy("platform/defaults", "// Everything is lowered for this test."));
    world.settle();
    // However long ago it spoke, it may speak now.
    let silent = Situation { head: None, confirmed: false, ..good.situation() };
    let asked = |chain: &Chain, tool: &str| {
        awaits_the_server(chain, &id(1), &world, &silent, &call(tool, json!({})), NOW)
    };
    assert!(asked(&chain(), "mail/buy"));
    for tool in ["mail/erase", "mail/send", "files/read", "mail/nothing", "nobody/buy"] {
        assert!(!asked(&chain(), tool), "{tool}");
    }
    let unconfirmed = Situation { confirmed: false, ..good.situation() };
    let mut suspended = chain();
    suspended.suspend(&id(1), Reason::Administrator);
    let scope = serde_json::from_value(json!([{ "tool": "files/*" }])).unwrap();
    let narrow = Task { scope, ..grant(1, None) };
    let narrow = Chain::begin(Arc::new(narrow), Standing::default(), NOW);
    for (mut spoilt, code) in [(suspended, Code::TaskSuspended), (narrow, Code::OutOfScope)] {
        assert!(!asked(&spoilt, "mail/buy"), "{code}");
        let verdict = judge(&mut spoilt, &id(1), &world, &unconfirmed, &call("mail/buy", json!({})), NOW);
        assert_eq!(verdict.code(), Some(code), "the reason is its own, not that nobody was asked");
    }
}

#[test]
fn a_task_acts_until_its_time_on_both_clocks_and_setting_one_back_helps_nothing() {
    let world = world();
    let fresh = |now: crate::Now| Situation { head: Some(now.boot), ..Good::default().situation() }.head;
    let at = |now: crate::Now| {
        let good = Good::default();
        let situation = Situation { head: fresh(now), ..good.situation() };
        judge(&mut chain(), &id(1), &world, &situation, &call("files/read", json!({})), now).code()
    };
    let life = 3600;
    assert_eq!(at(later(life - 1)), None);
    assert_eq!(at(later(life)), Some(Code::TaskEnded));
    assert_eq!(
        at(crate::Now { wall: NOW.wall, ..later(life) }),
        Some(Code::TaskEnded),
        "the wall clock was set back"
    );
    assert_eq!(
        at(crate::Now { boot: NOW.boot, ..later(life) }),
        Some(Code::TaskEnded),
        "the wall clock ran ahead"
    );
}

#[test]
fn who_is_suspended_ended_disabled_or_overdue_does_nothing() {
    let denied = |chain: &mut crate::Chain, world: &crate::World| {
        ask(chain, world, &call("files/read", json!({}))).code()
    };
    let mut suspended = chain();
    suspended.suspend(&id(1), Reason::Administrator);
    assert_eq!(denied(&mut suspended, &world()), Some(Code::TaskSuspended));
    assert!(suspended.resume(&id(1)));
    assert_eq!(denied(&mut suspended, &world()), None);
    suspended.end(&id(1), Reason::Done);
    assert_eq!(denied(&mut suspended, &world()), Some(Code::TaskEnded));
    assert!(!suspended.resume(&id(1)), "nothing leaves an end");

    for (change, code) in [
        (json!({ "disabled": "lost" }), Code::ActorDisabled),
        (json!({ "review_at": "2027-01-15T07:59:59Z" }), Code::ReviewOverdue),
    ] {
        let Object::Actor(actor) = actor("triage", "acme") else { unreachable!() };
        let mut changed = serde_json::to_value(&*actor).unwrap();
        change.as_object().unwrap().iter().for_each(|(name, value)| changed[name] = value.clone());
        let mut world = world();
        world.put(&Object::Actor(serde_json::from_value(changed).unwrap()));
        assert_eq!(denied(&mut chain(), &world), Some(code));
    }
    let mut world = world();
    world.put(&Object::Tenant(
        serde_json::from_value(
            json!({ "name": "acme", "disabled": "breach", "created_at": "2026-01-01T00:00:00Z" }),
        )
        .unwrap(),
    ));
    assert_eq!(denied(&mut chain(), &world), Some(Code::TenantDisabled));
    world.remove(&tenant("acme").key());
    assert_eq!(
        denied(&mut chain(), &world),
        Some(Code::TenantDisabled),
        "what is not in view is not trusted"
    );
}
