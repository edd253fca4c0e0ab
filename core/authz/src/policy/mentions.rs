//! Which facts of the context a policy could look at. The others need not be made for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Facts by their names, or all of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mentions {
    all: bool,
    names: BTreeSet<Box<str>>,
}

impl Mentions {
    /// Of a policy in Cedar's JSON form. One that hands `context` on whole could look at everything.
    pub(crate) fn of(policy: &Value) -> Self {
        let mut mentions = Self::default();
        mentions.look_at(policy);
        mentions
    }

    /// Whether it could look at this fact.
    pub(crate) fn include(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    /// Takes in what another policy could look at.
    pub(crate) fn join(&mut self, other: &Self) {
        self.all |= other.all;
        self.names.extend(other.names.iter().cloned());
    }

    fn look_at(&mut self, node: &Value) {
        match node {
            Value::Object(members) => {
                let of_context = |operator: &str| {
                    let inner = members.get(operator)?;
                    let is_alone =
                        members.len() == 1 && inner.get("left") == Some(&json!({ "Var": "context" }));
                    is_alone.then(|| inner.get("attr").and_then(Value::as_str))
                };
                match of_context(".").or_else(|| of_context("has")) {
                    Some(Some(name)) => drop(self.names.insert(name.into())),
                    Some(None) => self.all = true,
                    None => {
                        self.all |= members.get("Var").is_some_and(|var| var == "context");
                        members.values().for_each(|member| self.look_at(member));
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.look_at(item)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use cedar_policy::Policy;

    use super::*;

    fn of(condition: &str) -> Mentions {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        Mentions::of(&Policy::from_str(&text).unwrap().to_json().unwrap())
    }

    #[test]
    fn a_policy_mentions_what_it_names_of_the_context() {
        for (condition, names) in [
            ("true", &[][..]),
            ("context.tier > 1", &["tier"]),
            ("context has approval && context.approval.by == \"ann\"", &["approval"]),
            ("context[\"claimed\"] == {} || !(context has label)", &["claimed", "label"]),
            ("principal has context && resource.name == \"context\"", &[]),
            ("if context.args.text.hasTag(\"a\") then context.depth < 2 else false", &["args", "depth"]),
        ] {
            let names = names.iter().map(|name| (*name).into()).collect();
            assert_eq!(of(condition), Mentions { all: false, names }, "{condition}");
        }
    }

    #[test]
    fn a_policy_that_hands_the_context_on_could_look_at_everything() {
        for condition in [
            "{ x: context }.x.tier == 1",
            "[context].contains(context)",
            "context has label.sources",
            "context == context",
            "(if context.tier > 1 then context else context).tier == 1",
        ] {
            assert!(of(condition).include("whatever"), "{condition}");
        }
    }
}
