//! A token's claims as protobuf carries JSON.

use prost_types::{ListValue, Struct, Value as Wire, value::Kind};
use serde_json::{Map, Value};

/// RFC 7519, section 4.1: claims whose meaning everybody knows.
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// The claims, or of somebody else's token the registered ones.
pub(super) fn claims(claims: Map<String, Value>, only_registered: bool) -> Struct {
    let kept = claims.into_iter().filter(|(name, _)| !only_registered || REGISTERED.contains(&name.as_str()));
    Struct { fields: kept.map(|(name, value)| (name, wire(value))).collect() }
}

/// How deep it goes, the parser of the token has bounded.
fn wire(value: Value) -> Wire {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        // Every JSON number has a nearest one that protobuf can carry.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(wire).collect() }),
        Value::Object(members) => Kind::StructValue(claims(members, false)),
    };
    Wire { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_foreign_token_only_registered_claims_are_passed_on() {
        let said =
            json!({ "sub": "spiffe://a/b", "aud": ["x"], "exp": 1, "admin": true, "act": {"sub": "y"} });
        let Value::Object(said) = said else { panic!("it is an object") };
        let names = |all| claims(said.clone(), all).fields.into_keys().collect::<Vec<_>>();
        assert_eq!(names(true), ["aud", "exp", "sub"]);
        assert_eq!(names(false), ["act", "admin", "aud", "exp", "sub"]);
    }
}
