//! What a gate asks about: one call of one tool.

use std::collections::BTreeMap;

use registry::{
    objects::Sha256,
    scope::{ArgName, Scalar, ToolName},
};
use serde_json::{Map, Number, Value, json};

use crate::json::{BadJson, Json, Limits};

/// One call of one tool, parsed and in its canonical form, so that it is judged, hashed, shown and
/// forwarded as the same thing.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    tool: ToolName,
    arguments: Arguments,
    definition: Option<Sha256>,
    claimed: Claimed,
}

/// The arguments of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    json: Json,
    digest: Sha256,
    plain: BTreeMap<ArgName, Argument>,
}

/// One argument, as scopes and policies see it.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// A text, a whole number, true or false.
    Plain(Scalar),
    /// A list; `None` stands for an item that is none of these.
    List(Vec<Option<Scalar>>),
    /// Anything else: an object, a fraction, null.
    Other,
}

/// What the agent says about its call. It is believed only where it makes a decision stricter.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claimed {
    /// How sure it is, in percent.
    pub confidence: Option<u8>,
    /// Why it calls, in its own words.
    pub note: Option<String>,
}

/// A call that cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum BadCall {
    /// Its bytes are not a value that every reader reads alike.
    #[error(transparent)]
    Json(#[from] BadJson),
    /// It is JSON, but no call.
    #[error("the request is not a call of a tool: {0}")]
    Shape(String),
}

/// The longest note that is kept, in bytes.
pub const MAX_NOTE: usize = 1024;

impl ToolCall {
    /// A call of `tool`. Arguments that are left out are none: `{}`.
    pub fn new(tool: ToolName, arguments: Option<Value>) -> Result<Self, BadCall> {
        let arguments = Arguments::of(arguments.unwrap_or_else(|| Value::Object(Map::new())))?;
        Ok(Self { tool, arguments, definition: None, claimed: Claimed::default() })
    }

    /// The same with the digest of the definition that the upstream showed of the tool: SHA-256 of its
    /// canonical JSON.
    #[must_use]
    pub fn defined_as(self, definition: Sha256) -> Self {
        Self { definition: Some(definition), ..self }
    }

    /// The same with what the agent says about it.
    pub fn claimed(self, claimed: Claimed) -> Result<Self, BadCall> {
        if claimed.confidence.is_some_and(|percent| percent > 100) {
            return Err(shape("a confidence is a percentage, from 0 to 100"));
        }
        if claimed.note.as_ref().is_some_and(|note| note.len() > MAX_NOTE) {
            return Err(shape(&format!("a note has at most {MAX_NOTE} bytes")));
        }
        Ok(Self { claimed, ..self })
    }

    /// Reads what [`ToolCall::to_json`] wrote.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Self, BadCall> {
        let Value::Object(mut members) = Json::parse(bytes, limits)?.into_value() else {
            return Err(shape("it is not an object"));
        };
        let tool = text(members.remove("tool"), "tool")?.ok_or_else(|| shape("`tool` is missing"))?;
        let call = Self::new(
            tool.parse().map_err(|error| shape(&format!("{error}")))?,
            members.remove("arguments"),
        )?;
        let definition = text(members.remove("definition_sha256"), "definition_sha256")?;
        let definition = definition.map(|digest| digest.parse().map_err(|error| shape(&format!("{error}"))));
        let confidence = match members.remove("confidence") {
            None => None,
            Some(number) => Some(
                number
                    .as_u64()
                    .and_then(|percent| u8::try_from(percent).ok())
                    .ok_or_else(|| shape("`confidence`"))?,
            ),
        };
        let note = text(members.remove("note"), "note")?;
        if let Some(unknown) = members.keys().next() {
            return Err(shape(&format!("it has a member {unknown:?} that is not known")));
        }
        Self { definition: definition.transpose()?, ..call }.claimed(Claimed { confidence, note })
    }

    /// One JSON object with everything, in canonical form.
    pub fn to_json(&self) -> Vec<u8> {
        let mut call = json!({ "tool": self.tool, "arguments": self.arguments.value() });
        if let Some(definition) = self.definition {
            call["definition_sha256"] = definition.to_string().into();
        }
        if let Some(confidence) = self.claimed.confidence {
            call["confidence"] = confidence.into();
        }
        if let Some(note) = &self.claimed.note {
            call["note"] = note.as_str().into();
        }
        // INVARIANT: the arguments were canonical before, and nothing else here is a large number.
        Json::of(call).map(|json| json.canonical().to_vec()).unwrap_or_default()
    }

    /// Which tool.
    pub fn tool(&self) -> &ToolName {
        &self.tool
    }

    /// With what.
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// What the upstream showed of the tool.
    pub fn definition(&self) -> Option<Sha256> {
        self.definition
    }

    /// What the agent says.
    pub fn claims(&self) -> &Claimed {
        &self.claimed
    }
}

impl Arguments {
    fn of(value: Value) -> Result<Self, BadCall> {
        let json = Json::of(value).map_err(BadJson::from)?;
        let Value::Object(members) = json.value() else {
            return Err(shape("its arguments are not an object"));
        };
        let named = |(name, value): (&String, &Value)| {
            let name: ArgName = name.parse().map_err(|error| shape(&format!("{error}")))?;
            Ok((name, Argument::of(value)))
        };
        let plain = members.iter().map(named).collect::<Result<_, BadCall>>()?;
        Ok(Self { digest: Sha256::of(json.canonical()), plain, json })
    }

    /// The canonical bytes: what is forwarded.
    pub fn canonical(&self) -> &[u8] {
        self.json.canonical()
    }

    /// As a JSON object.
    pub fn value(&self) -> &Value {
        self.json.value()
    }

    /// SHA-256 of the canonical bytes.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Each by its name.
    pub fn iter(&self) -> impl Iterator<Item = (&ArgName, &Argument)> {
        self.plain.iter()
    }

    /// One of them.
    pub fn get(&self, name: &ArgName) -> Option<&Argument> {
        self.plain.get(name)
    }
}

impl Argument {
    fn of(value: &Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.iter().map(scalar).collect()),
            plain => scalar(plain).map_or(Self::Other, Self::Plain),
        }
    }

    /// Its values, each of a list; `None` for what is no plain one.
    pub fn values(&self) -> Vec<Option<Scalar>> {
        match self {
            Self::Plain(value) => vec![Some(value.clone())],
            Self::List(items) => items.clone(),
            Self::Other => vec![None],
        }
    }
}

fn scalar(value: &Value) -> Option<Scalar> {
    match value {
        Value::Bool(value) => Some(Scalar::Bool(*value)),
        Value::Number(number) => whole(number).map(Scalar::Int),
        Value::String(text) => Some(Scalar::Text(text.clone())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number however it was written: its canonical form has no fraction either.
fn whole(number: &Number) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "a canonical number without fraction is within 2^53")]
    let of_float = |float: f64| (float.fract() == 0.0).then_some(float as i64);
    number.as_i64().or_else(|| number.as_f64().and_then(of_float))
}

fn text(member: Option<Value>, name: &str) -> Result<Option<String>, BadCall> {
    match member {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(shape(&format!("`{name}` is not a text"))),
    }
}

fn shape(why: &str) -> BadCall {
    BadCall::Shape(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: Value) -> ToolCall {
        ToolCall::new("files/read".parse().unwrap(), Some(arguments)).unwrap()
    }

    #[test]
    fn a_call_survives_the_wire_and_has_one_digest_however_it_was_written() {
        let here = call(json!({ "b": [1, "x", null], "a": 2.0 }))
            .defined_as(Sha256::of(b"x"))
            .claimed(Claimed { confidence: Some(70), note: Some("\u{1F600}".into()) })
            .unwrap();
        let there = ToolCall::parse(&here.to_json(), Limits::default()).unwrap();
        assert_eq!(there.to_json(), here.to_json());
        assert_eq!(there.arguments().digest(), here.arguments().digest());
        assert_eq!(there.arguments().canonical(), br#"{"a":2,"b":[1,"x",null]}"#);
        assert_eq!((there.definition(), there.claims()), (here.definition(), here.claims()));
    }

    #[test]
    fn arguments_are_plain_lists_or_something_else() {
        let call = call(json!({ "n": 3.0, "f": 1.5, "t": true, "l": ["a", {}], "o": {} }));
        let seen: Vec<_> =
            call.arguments().iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        assert_eq!(
            seen,
            [
                ("f", Argument::Other),
                ("l", Argument::List(vec![Some(Scalar::Text("a".into())), None])),
                ("n", Argument::Plain(Scalar::Int(3))),
                ("o", Argument::Other),
                ("t", Argument::Plain(Scalar::Bool(true))),
            ]
        );
    }

    #[test]
    fn what_is_not_exactly_a_call_is_refused_with_a_reason() {
        for text in [
            r#"[]"#,
            r#"{"arguments":{}}"#,
            r#"{"tool":"files","arguments":{}}"#,
            r#"{"tool":"files/read","arguments":[]}"#,
            r#"{"tool":"files/read","arguments":{"a":1,"a":2}}"#,
            r#"{"tool":"files/read","arguments":{"a\u0000":1}}"#,
            r#"{"tool":"files/read","confidence":101}"#,
            r#"{"tool":"files/read","tool_name":"files/delete"}"#,
        ] {
            assert!(ToolCall::parse(text.as_bytes(), Limits::default()).is_err(), "{text}");
        }
        assert!(ToolCall::parse(br#"{"tool":"files/read"}"#, Limits::default()).is_ok());
    }
}
