//! Step 8: three layers, each apart.

use serde_json::json;

use crate::{Claimed, Code, Denial, Situation, World, judge, testing::*};

fn with(policies: &[(&str, &str)]) -> World {
    let mut world = world();
    policies.iter().for_each(|(name, text)| world.put(&policy(name, text)));
    world.settle();
    world
}

fn denial(world: &World, tool: &str) -> Denial {
    ask(&mut chain(), world, &call(tool, json!({})))
        .denial()
        .unwrap_or_else(|| panic!("{tool} is permitted"))
        .clone()
}

fn names(denial: &Denial) -> Vec<&str> {
    denial.policies.iter().map(AsRef::as_ref).collect()
}

#[test]
fn every_layer_can_deny_and_says_which_policy_did() {
    let forbid = "@id(\"no\") forbid(principal, action, resource);";
    for layer in ["platform/x", "actor/acme/x", "resource/acme/x"] {
        let denial = denial(&with(&[(layer, forbid)]), "files/read");
        assert_eq!(
            (denial.code, names(&denial), denial.requestable),
            (Code::PolicyDenied, vec!["no"], false),
            "{layer}"
        );
    }
}

#[test]
fn without_a_permit_of_both_tenants_nothing_is_allowed_and_a_person_may_be_asked() {
    for layer in ["actor/acme/all", "resource/acme/all"] {
        let denial = denial(&with(&[(layer, "// nothing\n")]), "files/read");
        assert_eq!((denial.code, denial.requestable), (Code::PolicyDenied, true), "{layer}");
        let mut gone = world();
        gone.remove(&policy(layer, "").key());
        gone.settle();
        assert_eq!(self::denial(&gone, "files/read").code, Code::PolicyDenied, "{layer}");
    }
}

#[test]
fn a_strangers_resource_is_its_owners_to_give() {
    assert!(ask(&mut chain(), &world(), &call("shop/list", json!({}))).denial().is_none());
    let denial = denial(
        &with(&[(
            "resource/other/all",
            "permit(principal, action, resource) when { principal.purpose == \"none\" };",
        )]),
        "shop/list",
    );
    assert!(denial.explanation.contains("the resource's owner other"), "{}", denial.explanation);
    let own = with(&[("actor/other/x", "forbid(principal, action, resource);")]);
    assert!(
        ask(&mut chain(), &own, &call("shop/list", json!({}))).denial().is_none(),
        "it says nothing about our actors"
    );
}

/// Cedar skips a policy that errs; a forbid that is skipped would allow.
#[test]
fn a_policy_that_errs_denies_in_every_layer() {
    let text = "@id(\"errs\") forbid(principal, action, resource) when { context.time.epoch * 9223372036854775807 > 0 };";
    for layer in ["platform/x", "actor/acme/x", "resource/acme/x"] {
        let denial = denial(&with(&[(layer, text)]), "files/read");
        assert_eq!(
            (denial.code, names(&denial), denial.requestable),
            (Code::PolicyError, vec!["errs"], false),
            "{layer}"
        );
    }
}

#[test]
fn a_layer_with_a_text_that_does_not_validate_denies_until_it_is_mended() {
    let broken = with(&[("actor/acme/x", "permit(principal, action, resource) when { context.nothing };")]);
    let denial = denial(&broken, "files/read");
    assert_eq!(denial.code, Code::PolicyError);
    assert!(denial.explanation.contains("actor/acme/x#1"), "{}", denial.explanation);
    assert!(self::denial(&World::default(), "files/read").code == Code::UnregisteredEnforcementPoint);
    assert!(
        broken
            .policies()
            .faults()
            .all(|fault| fault.why.contains("nothing") && !fault.why.contains("policy0"))
    );
}

#[test]
fn each_fact_flips_a_decision_alone() {
    let only = |condition: &str| {
        with(&[("actor/acme/all", &format!("permit(principal, action, resource) when {{ {condition} }};"))])
    };
    let arguments = json!({ "path": "/srv/a", "n": 3, "tags": ["x", "y"], "o": {} });
    let call = call("files/write", arguments).claimed(Claimed { confidence: Some(20), note: None }).unwrap();
    let good = Good::default();
    let permitted =
        |world: &World| judge(&mut chain(), &id(1), world, &good.situation(), &call, NOW).code().is_none();
    for (condition, holds) in [
        ("principal in Writ::Actor::\"spiffe://acme.example/agent/triage\"", true),
        ("principal in Writ::Tenant::\"other\"", false),
        (
            "principal.mandate == \"triage\" && principal.purpose == \"triage\" && principal.begun_by == \"itself\"",
            true,
        ),
        ("principal.actor.owner == \"ann\" && principal.actor.autonomy < 2", true),
        ("resource == Writ::Tool::\"files/write\" && resource in Writ::Resource::\"files\"", true),
        ("resource.effect == \"write\" && !resource.pinned", true),
        ("action in Writ::Action::\"change\"", true),
        ("action == Writ::Action::\"delete\"", false),
        ("context.args.text.hasTag(\"path\") && context.args.text.getTag(\"path\") like \"/srv/*\"", true),
        ("context.args.text.hasTag(\"path\") && context.args.text.getTag(\"path\") like \"/etc/*\"", false),
        ("context.args.number.hasTag(\"n\") && context.args.number.getTag(\"n\") < 4", true),
        ("context.args.number.hasTag(\"path\")", false),
        ("context.args.list.hasTag(\"tags\") && context.args.list.getTag(\"tags\").contains(\"y\")", true),
        ("context.args.other.contains(\"o\") && !context.args.other.contains(\"n\")", true),
        ("context.label.confidentiality == 0 && !context.untrusted", true),
        (
            "context.environment == \"prod\" && context.isolation == \"process\" && context.egress == \"open\"",
            true,
        ),
        ("context.pep_remote || context.cross_tenant", false),
        ("context.chain.actions == 0 && context.chain.denials == 0 && context.depth == 0", true),
        ("context.tier == 1", true),
    ] {
        let world = only(condition);
        assert_eq!(
            world.policies().faults().collect::<Vec<_>>(),
            [] as [&crate::policy::Fault; 0],
            "{condition}"
        );
        assert_eq!(permitted(&world), holds, "{condition}");
    }
}

#[test]
fn the_agents_own_words_can_only_make_it_stricter() {
    let world = with(&[(
        "platform/unsure",
        "forbid(principal, action, resource) when { context.claimed has confidence && context.claimed.confidence < 50 };",
    )]);
    let says = |confidence| {
        let call = call("files/read", json!({})).claimed(Claimed { confidence, note: None }).unwrap();
        ask(&mut chain(), &world, &call).code()
    };
    assert_eq!([says(None), says(Some(50)), says(Some(49))], [None, None, Some(Code::PolicyDenied)]);
}

#[test]
fn the_chains_history_is_a_fact() {
    let world = with(&[(
        "platform/quiet",
        "@id(\"once\") forbid(principal, action in Writ::Action::\"change\", resource) when { context.chain.changes >= 1 };",
    )]);
    let mut chain = chain();
    let write = call("files/write", json!({}));
    assert_eq!(ask(&mut chain, &world, &write).code(), None);
    assert_eq!(ask(&mut chain, &world, &call("files/read", json!({}))).code(), None);
    assert_eq!(ask(&mut chain, &world, &write).code(), Some(Code::PolicyDenied));
}

#[test]
fn risk_asks_for_confinement_and_approval_until_a_policy_named_defaults_lowers_it() {
    let defaults = world();
    let denial = denial(&defaults, "mail/erase");
    assert_eq!((denial.code, names(&denial)), (Code::PolicyDenied, vec!["confined-from-tier-2"]));
    let good = Good::default();
    let confined = Situation { egress: registry::scope::Egress::Confined, remote: true, ..good.situation() };
    let ask = |world: &World, tool: &str| {
        judge(&mut chain(), &id(1), world, &confined, &call(tool, json!({})), NOW)
    };
    assert_eq!(ask(&defaults, "mail/erase").code(), None);
    let paid = ask(&defaults, "mail/buy");
    assert_eq!(names(paid.denial().unwrap()), ["approved-at-tier-3"]);
    assert!(paid.denial().unwrap().requestable, "the policy itself waits for an approval");
    let crossing = ask(&defaults, "shop/order");
    assert_eq!((crossing.tier, crossing.code()), (registry::scope::Tier::T3, Some(Code::PolicyDenied)));
    assert_eq!(ask(&defaults, "shop/note").code(), None, "its owner says that it is harmless");
    let lowered = with(&[("platform/defaults", "// Nothing is asked for on this machine.\n")]);
    assert_eq!([ask(&lowered, "mail/buy").code(), ask(&lowered, "shop/order").code()], [None, None]);
}
