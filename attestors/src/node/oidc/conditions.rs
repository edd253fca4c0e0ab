//! What a token's claims must say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Claims that a token must have, each with one of the values. A value may end with an asterisk, which
/// stands for any further text.
pub(super) type Conditions = BTreeMap<String, Wanted>;

/// One value, or one of several.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Wanted {
    /// This one.
    One(String),
    /// One of these.
    Any(Vec<String>),
}

impl Wanted {
    fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Any(values) => values,
        }
    }

    /// Why it can be met by nobody, or by everybody.
    pub(super) fn problem(&self) -> Option<&'static str> {
        match self.values() {
            [] => Some("has no value, so no token has it"),
            values if values.iter().any(|value| value.trim_end_matches('*').is_empty()) => {
                Some("takes every value, so it demands nothing")
            }
            values if values.iter().any(|value| value.trim_end_matches('*').contains('*')) => {
                Some("has an asterisk in the middle of a value; it may stand at the end")
            }
            _ => None,
        }
    }

    fn is_met_by(&self, value: &str) -> bool {
        self.values().iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => value.starts_with(beginning),
            None => value == wanted,
        })
    }
}

/// The first claim that is not as it must be.
pub(super) fn unmet<'c>(conditions: &'c Conditions, claims: &Map<String, Value>) -> Option<&'c str> {
    let is_met =
        |(name, wanted): &(&String, &Wanted)| texts(claims, name).iter().any(|value| wanted.is_met_by(value));
    conditions.iter().find(|condition| !is_met(condition)).map(|(name, _)| name.as_str())
}

/// The values of a claim: its own, or each of a list. A name that begins with a slash leads into objects
/// (a JSON pointer, RFC 6901).
pub(super) fn texts(claims: &Map<String, Value>, name: &str) -> Vec<String> {
    let found = match name.strip_prefix('/') {
        None => claims.get(name),
        Some(rest) => {
            let (first, within) =
                rest.split_once('/').map_or((rest, None), |(first, rest)| (first, Some(rest)));
            let first = claims.get(&first.replace("~1", "/").replace("~0", "~"));
            match within {
                None => first,
                Some(within) => first.and_then(|value| value.pointer(&format!("/{within}"))),
            }
        }
    };
    match found {
        Some(Value::Array(values)) => values.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meets(wanted: &Value, claims: &Value) -> bool {
        let conditions: Conditions = serde_json::from_value(wanted.clone()).unwrap();
        unmet(&conditions, claims.as_object().unwrap()).is_none()
    }

    #[test]
    fn every_condition_must_be_met_and_one_value_of_each_is_enough() {
        let claims = json!({
            "repository": "acme/shop", "ref": "refs/tags/v1", "n": 7, "groups": ["a", "b"],
            "kubernetes.io": { "namespace": "ci", "pod": { "name": "x/y" } }, "nothing": null,
        });
        for (wanted, expected) in [
            (json!({ "repository": "acme/shop" }), true),
            (json!({ "repository": "acme/sho" }), false),
            (json!({ "repository": "ACME/shop" }), false),
            (json!({ "repository": ["acme/web", "acme/shop"], "n": "7" }), true),
            (json!({ "repository": "acme/shop", "n": "8" }), false),
            (json!({ "ref": "refs/tags/*" }), true),
            (json!({ "ref": "refs/heads/*" }), false),
            (json!({ "groups": "b" }), true),
            (json!({ "groups": "c" }), false),
            (json!({ "/kubernetes.io/namespace": "ci" }), true),
            (json!({ "/kubernetes.io/pod/name": "x/y" }), true),
            (json!({ "/kubernetes.io/pod": "*x" }), false),
            (json!({ "/repository": "acme/shop" }), true),
            (json!({ "missing": "*" }), false),
            (json!({ "nothing": "null" }), false),
        ] {
            assert_eq!(meets(&wanted, &claims), expected, "{wanted}");
        }
    }

    #[test]
    fn a_condition_that_everybody_meets_or_nobody_is_a_mistake() {
        let problem = |wanted: &Value| serde_json::from_value::<Wanted>(wanted.clone()).unwrap().problem();
        for wrong in [json!([]), json!("*"), json!(""), json!(["a", "*"]), json!("a*b"), json!("**")] {
            assert!(problem(&wrong).is_some(), "{wrong}");
        }
        for right in [json!("a"), json!(["a", "b*"])] {
            assert_eq!(problem(&right), None, "{right}");
        }
    }
}
