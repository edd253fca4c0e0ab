use proptest::prelude::*;
use serde_json::json;

use super::*;

fn scope(rules: serde_json::Value) -> Scope {
    serde_json::from_value(rules).unwrap()
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

fn allows(scope: &Scope, tool: &str, args: &[(&str, Scalar)]) -> bool {
    let tool: ToolName = tool.parse().unwrap();
    let named: Vec<(ArgName, Scalar)> =
        args.iter().map(|(name, value)| (name.parse().unwrap(), value.clone())).collect();
    let mut rules = scope.about(&tool);
    rules.any(|rule| {
        rule.required().all(|wanted| named.iter().any(|(name, _)| name == wanted))
            && named.iter().all(|(name, value)| rule.allows(name, &[Some(value.clone())]))
    })
}

#[test]
fn a_pattern_stands_for_its_resource_alone() {
    let pattern: ToolPattern = "files/*".parse().unwrap();
    assert!(pattern.matches(&"files/read".parse().unwrap()));
    assert!(!pattern.matches(&"files2/read".parse().unwrap()));
    assert!("*".parse::<ToolPattern>().is_err() && "files/re*".parse::<ToolPattern>().is_err());
}

#[test]
fn an_argument_must_be_named_be_there_and_hold() {
    let scope = scope(json!([{
        "tool": "files/read",
        "args": { "path": [{ "under": "/srv/docs" }], "limit": ["optional", { "at_most": 10 }] },
    }]));
    assert!(allows(&scope, "files/read", &[("path", text("/srv/docs/a"))]));
    assert!(allows(&scope, "files/read", &[("path", text("/srv/docs")), ("limit", Scalar::Int(10))]));
    for args in [
        vec![],
        vec![("path", text("/srv/docs/../secret"))],
        vec![("path", text("/srv/docsX"))],
        vec![("path", text("/srv/docs//a"))],
        vec![("path", text("/srv/docs/%2e%2e/a"))],
        vec![("path", text("/srv/docs/a")), ("limit", Scalar::Int(11))],
        vec![("path", text("/srv/docs/a")), ("limit", text("5"))],
        vec![("path", text("/srv/docs/a")), ("follow", Scalar::Bool(true))],
    ] {
        assert!(!allows(&scope, "files/read", &args), "{args:?}");
    }
    assert!(!allows(&scope, "files/write", &[("path", text("/srv/docs/a"))]));
}

#[test]
fn a_parameter_holds_once_it_is_bound() {
    let scope = scope(json!([{ "tool": "mail/send", "args": { "to": [{ "param": "customer" }] } }]));
    let call = [("to", text("a@acme.example"))];
    assert!(!allows(&scope, "mail/send", &call));
    assert!(matches!(scope.bind(&Params::new()), Err(ScopeError::NoParameter(_))));
    let params = Params::from([("customer".parse().unwrap(), text("a@acme.example"))]);
    let bound = scope.bind(&params).unwrap();
    assert!(allows(&bound, "mail/send", &call));
    assert!(!allows(&bound, "mail/send", &[("to", text("b@evil.example"))]));
}

#[test]
fn what_one_demands_and_the_other_forbids_is_nothing() {
    let one = scope(json!([{ "tool": "a/b", "args": { "x": [] } }]));
    let other = scope(json!([{ "tool": "a/*", "args": { "y": ["optional"] } }]));
    assert!(one.intersect(&other).unwrap().is_empty());
    assert_eq!(one.intersect(&scope(json!([{ "tool": "a/*" }]))).unwrap(), one);
}

fn constraint() -> impl Strategy<Value = Constraint> {
    prop_oneof![
        Just(Constraint::Optional),
        (0..4_i64).prop_map(|n| Constraint::Equals(Scalar::Int(n))),
        (0..4_i64).prop_map(Constraint::AtMost),
        (0..4_i64).prop_map(Constraint::AtLeast),
    ]
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let args = prop::collection::btree_map("[xy]", prop::collection::vec(constraint(), 0..3), 0..3);
    let rule = ("[ab]/([cd]|\\*)", prop::option::of(args)).prop_map(|(tool, args)| Rule {
        tool: tool.parse().unwrap(),
        args: args.map(|args| args.into_iter().map(|(name, c)| (name.parse().unwrap(), c)).collect()),
    });
    prop::collection::vec(rule, 0..4).prop_map(Scope)
}

fn label() -> impl Strategy<Value = Label> {
    let words = || prop::collection::btree_set("[a-c]", 0..3);
    (0..4_u8, words(), words()).prop_map(|(level, categories, sources)| Label {
        confidentiality: level.try_into().unwrap(),
        categories: categories.iter().map(|word| word.parse().unwrap()).collect(),
        sources: sources.iter().map(|word| word.parse().unwrap()).collect(),
    })
}

proptest! {
    #[test]
    fn an_intersection_allows_what_both_allow_and_nothing_else(
        one in any_scope(),
        other in any_scope(),
        tool in "[ab]/[cd]",
        args in prop::collection::btree_map("[xy]", 0..4_i64, 0..3),
    ) {
        let args: Vec<_> = args.iter().map(|(name, n)| (name.as_str(), Scalar::Int(*n))).collect();
        let both = one.intersect(&other).unwrap();
        let wanted = allows(&one, &tool, &args) && allows(&other, &tool, &args);
        prop_assert_eq!(allows(&both, &tool, &args), wanted);
    }

    #[test]
    fn labels_form_a_lattice(a in label(), b in label(), c in label()) {
        prop_assert!(a.is_within(&a.join(&b)) && b.is_within(&a.join(&b)));
        prop_assert_eq!(a.join(&b), b.join(&a));
        prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
        prop_assert_eq!(a.is_within(&b), a.join(&b) == b);
    }
}
