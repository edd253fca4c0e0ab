//! One policy of a text: parsed, held to the schema and to its layer.

use std::str::FromStr;

use cedar_policy::{Effect, Policy, PolicySet, PrincipalConstraint, ResourceConstraint};
use registry::objects::Layer;
use serde_json::Value;

use super::{
    Mentions, schema,
    split::{Size, check_size},
};

/// A policy that may be used in its layer.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Under a name that stands for nothing yet.
    pub(super) policy: Policy,
    /// The name that its author gave it.
    pub(super) id: Option<String>,
    /// What it could look at.
    pub(super) mentions: Mentions,
}

/// The largest policy.
pub(super) const LARGEST: Size = Size { bytes: 8 * 1024, operators: 1000, angles: false };
/// Levels of a policy's syntax as JSON; each operator is two of them.
const DEEPEST: usize = 256;

impl Rule {
    /// Parses one policy; all that is wrong with it otherwise.
    pub(super) fn parse(text: &str, layer: &Layer) -> Result<Self, Vec<String>> {
        check_size(text, LARGEST).map_err(|why| vec![why])?;
        let set = PolicySet::from_str(text)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        if set.num_of_templates() > 0 {
            return Err(vec![
                "a policy is a template (it has a ?slot), and nothing here links templates".into(),
            ]);
        }
        let mut policies = set.policies();
        let (Some(policy), None) = (policies.next(), policies.next()) else {
            return Err(vec!["a policy does not end with its own semicolon".into()]);
        };
        let json = policy.to_json().map_err(|error| vec![error.to_string()])?;
        if nests_deeper(&json, DEEPEST) {
            // Cedar's validator gives up silently on what is very deep.
            return Err(vec![
                "its conditions nest too deep, or chain too many operators; cut it in two".into(),
            ]);
        }
        let mut faults = schema::faults(&set);
        let mentions = Mentions::of(&json);
        faults.extend(against_layer(policy, &mentions, layer));
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { id: policy.annotation("id").map(str::to_owned), policy: policy.clone(), mentions })
    }
}

/// What the layer does not allow.
fn against_layer(policy: &Policy, mentions: &Mentions, layer: &Layer) -> Vec<String> {
    let mut faults = Vec::new();
    if policy.effect() == Effect::Permit {
        if *layer == Layer::Platform {
            faults.push("the platform's policies only forbid; permits belong to tenants".to_owned());
        }
        if mentions.include("claimed") {
            let why = "a permit may not depend on context.claimed, which the agent says of itself; only a forbid may";
            faults.push(why.to_owned());
        }
    }
    let foreign = |named: Option<cedar_policy::EntityUid>, own: &str| {
        let named = named.filter(|uid| uid.type_name().to_string() == "Writ::Tenant")?;
        let id: &str = named.id().as_ref();
        (id != own).then(|| format!("it names the tenant {id}, and belongs to {own}"))
    };
    match layer {
        Layer::Platform => {}
        Layer::Actor(tenant) => faults.extend(foreign(principal(policy), tenant.as_str())),
        Layer::Resource(tenant) => faults.extend(foreign(resource(policy), tenant.as_str())),
    }
    faults
}

/// The entity that a policy's head names as its principal, or as what holds its principals.
pub(super) fn principal(policy: &Policy) -> Option<cedar_policy::EntityUid> {
    match policy.principal_constraint() {
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
            Some(uid)
        }
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
    }
}

/// The entity that a policy's head names as its resource, or as what holds its resources.
pub(super) fn resource(policy: &Policy) -> Option<cedar_policy::EntityUid> {
    match policy.resource_constraint() {
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
            Some(uid)
        }
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
    }
}

/// Levels of objects and arrays, without going down on the stack.
fn nests_deeper(json: &Value, most: usize) -> bool {
    let mut open = vec![(json, 1)];
    while let Some((node, depth)) = open.pop() {
        if depth > most {
            return true;
        }
        match node {
            Value::Object(members) => open.extend(members.values().map(|member| (member, depth + 1))),
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, layer: &str) -> Result<Rule, Vec<String>> {
        Rule::parse(text, &format!("{layer}/x").parse::<registry::objects::PolicyId>().unwrap().layer)
    }

    #[test]
    fn the_defaults_are_policies_of_the_platform() {
        for text in super::super::split::split(schema::DEFAULTS) {
            parse(text, "platform").unwrap();
        }
    }

    #[test]
    fn the_platform_only_forbids() {
        let faults = parse("permit(principal, action, resource);", "platform").unwrap_err();
        assert!(faults[0].contains("only forbid"), "{faults:?}");
    }

    #[test]
    fn a_permit_cannot_listen_to_the_agent_and_a_forbid_can() {
        for condition in [
            "context.claimed has confidence",
            "context[\"claimed\"] == {}",
            "context has claimed",
            "context has claimed.confidence",
            "{ x: context }.x.claimed == {}",
            "(if context.tier > 1 then context else context).claimed == {}",
            "[context].contains(context)",
            "context == context",
        ] {
            let text =
                |effect: &str| format!("{effect}(principal, action, resource) when {{ {condition} }};");
            let faults = parse(&text("permit"), "actor/acme").expect_err(condition);
            assert!(faults.iter().any(|fault| fault.contains("claimed")), "{condition}: {faults:?}");
            assert!(
                parse(&text("forbid"), "platform").is_ok_and(|_| true) || condition.contains("=="),
                "{condition}"
            );
        }
        let others = "permit(principal, action, resource) when { context.tier < 2 && context has approval };";
        parse(others, "actor/acme").unwrap();
    }

    #[test]
    fn a_tenant_names_its_own_and_nobody_elses() {
        let own = "permit(principal in Writ::Tenant::\"acme\", action, resource);";
        let foreign = "permit(principal in Writ::Tenant::\"other\", action, resource);";
        parse(own, "actor/acme").unwrap();
        assert!(parse(foreign, "actor/acme").unwrap_err()[0].contains("other"));
        let resource = "permit(principal, action, resource in Writ::Tenant::\"other\");";
        assert!(parse(resource, "resource/acme").is_err());
        parse(foreign, "resource/acme").expect("a resource's owner decides about other tenants' actors");
    }

    #[test]
    fn what_breaks_the_schema_is_refused() {
        for text in [
            "permit(principal, action, resource) when { context.nothing };",
            "permit(principal, action == Writ::Action::\"fly\", resource);",
            "permit(principal, action, resource) when { context.args.text.getTag(\"path\") == \"x\" };",
            "permit(principal == ?principal, action, resource);",
            "permit(principal, action, resource)",
            "",
        ] {
            assert!(parse(text, "actor/acme").is_err(), "{text}");
        }
    }
}
