use cedar_policy::Authorizer;
use proptest::prelude::*;
use registry::{
    objects::{self, Layer, TenantName},
    scope::ResourceName,
};

use super::bare::{Bare, Read};
use super::*;

const ENTITIES: &str = r#"[
    { "uid": { "type": "T", "id": "0" }, "attrs": { "n": 1 }, "parents": [{ "type": "A", "id": "0" }] },
    { "uid": { "type": "T", "id": "1" }, "attrs": {}, "parents": [{ "type": "A", "id": "1" }] },
    { "uid": { "type": "A", "id": "0" }, "attrs": {}, "parents": [{ "type": "O", "id": "0" }] },
    { "uid": { "type": "A", "id": "1" }, "attrs": {}, "parents": [{ "type": "O", "id": "0" }, { "type": "O", "id": "1" }] },
    { "uid": { "type": "Action", "id": "0" }, "attrs": {}, "parents": [{ "type": "Action", "id": "g" }] },
    { "uid": { "type": "Action", "id": "1" }, "attrs": {}, "parents": [] }
]"#;

fn entity() -> impl Strategy<Value = String> {
    ("[TAO]", "[012]").prop_map(|(kind, id)| format!("{kind}::\"{id}\""))
}

fn party(name: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        Just(name.to_owned()),
        entity().prop_map(move |uid| format!("{name} == {uid}")),
        entity().prop_map(move |uid| format!("{name} in {uid}")),
        "[TAO]".prop_map(move |kind| format!("{name} is {kind}")),
        ("[TAO]", entity()).prop_map(move |(kind, uid)| format!("{name} is {kind} in {uid}")),
    ]
}

fn action() -> impl Strategy<Value = String> {
    let uid = || "[01g]".prop_map(|id| format!("Action::\"{id}\""));
    prop_oneof![
        Just("action".to_owned()),
        uid().prop_map(|uid| format!("action == {uid}")),
        uid().prop_map(|uid| format!("action in {uid}")),
        (uid(), uid()).prop_map(|(a, b)| format!("action in [{a}, {b}]")),
    ]
}

fn any_policy() -> impl Strategy<Value = String> {
    let condition = prop_oneof![
        4 => Just(String::new()),
        1 => Just(" when { principal.n == 1 }".to_owned()), // errs where there is no n
        1 => Just(" unless { resource in O::\"1\" }".to_owned()),
        1 => Just(" when { context.n * 9223372036854775807 > 0 }".to_owned()), // errs where n is large
    ];
    ("permit|forbid", party("principal"), action(), party("resource"), condition)
        .prop_map(|(effect, p, a, r, condition)| format!("{effect}({p}, {a}, {r}){condition};\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2 * ProptestConfig::default().cases, ..ProptestConfig::default() })]
    #[test]
    fn slicing_never_changes_decision_reasons_or_errors(
        policies in prop::collection::vec(any_policy(), 0..24),
        requests in prop::collection::vec(("[TAO]", "[012]", "[01]", "[TAO]", "[012]", 0..3_i64), 1..12),
    ) {
        let read = Read::parse(&policies.concat(), None, ENTITIES).unwrap();
        for (principal, p, action, resource, r, n) in &requests {
            let about = [(principal.as_str(), p.as_str()), ("Action", action), (resource, r)];
            let context = format!("{{\"n\":{n}}}");
            let sliced = read.decide(about, &context).unwrap();
            let (request, _) = read.request(about, &context).unwrap();
            let whole = Authorizer::new().is_authorized(&request, &read.policies, &read.entities);
            prop_assert_eq!(sliced, Bare::of(&whole));
        }
    }

    #[test]
    fn no_text_panics_and_what_is_refused_is_told_in_few_words(
        parts in prop::collection::vec(prop_oneof![
            Just("permit(principal, action, resource)".to_owned()),
            Just("@id(\"x\") forbid(principal, action, resource) when { context.tier > 1 };".to_owned()),
            Just(" when { context.args.text.getTag(\"a\") like \"*\" }".to_owned()),
            Just("((((((((".to_owned()), Just("!!!!!!!!".to_owned()), Just("[[[[{{{{".to_owned()), Just("\"".to_owned()),
            "\\PC{0,20}", Just(";".to_owned()), Just("//".to_owned()), Just("\n".to_owned()),
        ], 0..12),
        layer in "platform|actor/acme|resource/acme",
    ) {
        let text = text(&format!("{layer}/x"), &parts.concat());
        let faults = check(&text, &Nobody);
        prop_assert!(faults.len() <= 100);
        let compiled = Policies::compile([&text], &Policies::default());
        prop_assert_eq!(compiled.faults().next().is_none(), faults.is_empty());
    }
}

#[test]
fn a_condition_nested_without_end_is_refused_and_nothing_overflows() {
    let most = 8_000;
    for (nested, accepted) in [
        (format!("{}true{}", "(".repeat(20), ")".repeat(20)), true),
        (format!("{}true{}", "(".repeat(most / 2), ")".repeat(most / 2)), false),
        (format!("{}true", "!".repeat(most)), false),
        (format!("{}1{} == 1", "[".repeat(most / 2), "]".repeat(most / 2)), false),
        (format!("true{}", " && true".repeat(40)), true),
        (format!("true{}", "||true".repeat(most / 6)), false),
        (format!("0 < 1{}", "+1".repeat(most / 2)), false),
        (format!("context{} == 1", ".a".repeat(most / 2)), false),
        (format!("{}true{}", "if true then ".repeat(most / 25), " else false".repeat(most / 25)), false),
        ("x".repeat(9_000), false),
    ] {
        let text = text("actor/acme/x", &format!("permit(principal, action, resource) when {{ {nested} }};"));
        assert_eq!(check(&text, &Nobody).is_empty(), accepted, "{}", &nested[..20]);
    }
}

fn text(id: &str, text: &str) -> objects::Policy {
    objects::Policy {
        id: id.parse().unwrap(),
        text: text.to_owned(),
        lowers: Default::default(),
        pushed_at: spiffe::Timestamp::default(),
    }
}

struct Nobody;

impl Owners for Nobody {
    fn of_actor(&self, _: &str) -> Option<TenantName> {
        None
    }
    fn of_resource(&self, _: &ResourceName) -> Option<TenantName> {
        None
    }
}

struct Others;

impl Owners for Others {
    fn of_actor(&self, id: &str) -> Option<TenantName> {
        (id == "spiffe://acme.example/agent/stranger").then(|| "other".parse().unwrap())
    }
    fn of_resource(&self, name: &ResourceName) -> Option<TenantName> {
        (name.as_str() == "shop").then(|| "other".parse().unwrap())
    }
}

#[test]
fn a_push_may_name_only_the_tenants_own_actors_and_resources() {
    let stranger =
        "permit(principal in Writ::Actor::\"spiffe://acme.example/agent/stranger\", action, resource);";
    let own = "permit(principal in Writ::Actor::\"spiffe://acme.example/agent/triage\", action, resource);";
    assert!(check(&text("actor/acme/x", stranger), &Others)[0].why.contains("belongs to other"));
    assert_eq!(check(&text("actor/acme/x", own), &Others), []);
    assert_eq!(
        check(&text("resource/acme/x", stranger), &Others),
        [],
        "a resource's owner names whom it lets in"
    );
    for resource in ["== Writ::Tool::\"shop/list\"", "in Writ::Resource::\"shop\""] {
        let text = text("resource/acme/x", &format!("permit(principal, action, resource {resource});"));
        assert!(check(&text, &Others)[0].why.contains("belongs to other"), "{resource}");
    }
}

#[test]
fn diagnostics_name_what_the_author_named_and_no_name_is_there_twice() {
    let texts = [
        text(
            "actor/acme/a",
            "@id(\"mine\") permit(principal, action, resource);\npermit(principal, action, resource);",
        ),
        text("actor/acme/b", "@id(\"mine\") forbid(principal, action, resource);"),
    ];
    let compiled = Policies::compile(&texts, &Policies::default());
    let faults: Vec<_> = compiled.faults().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("actor/acme/b#1") && faults[0].contains("mine"), "{faults:?}");
    let elsewhere = text("resource/acme/b", "@id(\"mine\") forbid(principal, action, resource);");
    assert_eq!(Policies::compile([&texts[0], &elsewhere], &Policies::default()).faults().count(), 0);
}

#[test]
fn only_what_changed_is_compiled_again_and_equal_texts_have_one_version() {
    let a = text("actor/acme/a", "permit(principal, action, resource);");
    let b = text("resource/acme/b", "permit(principal, action, resource);");
    let layer = |name: &str| format!("{name}/x").parse::<objects::PolicyId>().unwrap().layer;
    let first = Policies::compile([&a, &b], &Policies::default());
    let same = Policies::compile([&b, &a], &Policies::default());
    assert_eq!(first.version(), same.version());
    let changed = text("resource/acme/b", "forbid(principal, action, resource);");
    let second = Policies::compile([&a, &changed], &first);
    assert_ne!(first.version(), second.version());
    let compiled = |policies: &Policies, layer: &Layer| std::ptr::from_ref(policies.layer(layer).unwrap());
    assert_eq!(compiled(&first, &layer("actor/acme")), compiled(&second, &layer("actor/acme")));
    assert_ne!(compiled(&first, &layer("resource/acme")), compiled(&second, &layer("resource/acme")));
    assert_eq!(first.len(), second.len());
}

#[test]
fn a_request_in_cedars_own_words_is_answered_in_cedars_own_words() {
    let input = BareInput {
        policies: "permit(principal, action, resource);\n@id(\"named\") permit(principal, action, resource);\n\
                   forbid(principal, action, resource) when { context.big == 9223372036854775807 && context.big + 1 > 0 };",
        schema: None,
        entities: "[]",
        principal: ("U", "a"),
        action: ("Action", "b"),
        resource: ("N::R", "c"),
        context: "{\"big\":9223372036854775807}",
    };
    let bare = authorize_bare(&input).unwrap();
    assert_eq!(
        (bare.allow, bare.reasons, bare.errors),
        (true, vec!["named".into(), "policy0".into()], vec!["policy2".into()])
    );
    for wrong in [
        BareInput { policies: "permit(", ..input },
        BareInput { entities: "{}", ..input },
        BareInput { context: "[]", ..input },
        BareInput { principal: ("not a type", "a"), ..input },
        BareInput { schema: Some("entity U;"), ..input },
        BareInput { context: "{\"big\":9223372036854775808}", ..input },
    ] {
        assert!(authorize_bare(&wrong).is_err(), "{wrong:?}");
    }
}
