use registry::scope::Isolation;
use serde_json::json;

use super::*;
use crate::{Freshness, testing::*};

#[test]
fn what_is_in_scope_and_permitted_by_both_tenants_is_permitted_and_says_by_which_policies() {
    let verdict = ask(&mut chain(), &world(), &call("files/read", json!({ "path": "/a" })));
    let Decision::Permit { policies, stores } = &verdict.decision else { panic!("{:?}", verdict.decision) };
    assert_eq!(policies.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["acme-lets", "acme-may"]);
    assert_eq!((stores, verdict.seq, verdict.effect, verdict.tier), (&None, 1, Effect::Read, Tier::T0));
}

/// Each row spoils one thing that the first rules look at.
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
        (Situation { head: Some(NOW.boot + std::time::Duration::from_secs(1)), ..fine }, Code::Stale),
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
    let long = Freshness { tier_0: std::time::Duration::from_secs(3600), ..Freshness::default() };
    let configured = Situation { freshness: long, ..situation };
    assert_eq!(code("files/read", &configured, later(60)), None);
    assert_eq!(
        code("files/read", &configured, later(61)),
        Some(Code::Stale),
        "a minute is the most for tier 0"
    );
}
