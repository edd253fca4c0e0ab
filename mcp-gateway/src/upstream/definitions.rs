//! What a server shows of its tools, and the digests by which an owner approves that.

use std::collections::BTreeMap;

use authz::Json;
use registry::{
    objects::Sha256,
    scope::{ResourceName, ToolName},
};
use serde_json::Value;

/// The tools of one server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Definitions(BTreeMap<String, Definition>);

/// One tool as its server shows it: name, description, schemas and whatever else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Definition {
    pub(crate) tool: ToolName,
    pub(crate) shown: Value,
    /// SHA-256 of its canonical JSON.
    pub(crate) digest: Sha256,
}

/// Tools that one server may have.
const MOST: usize = 2000;

impl Definitions {
    /// Takes one page in and says where the next one is. A tool that has no name of ours, or a definition that not
    /// every reader reads alike, is left out: it cannot be called.
    pub(crate) fn take(&mut self, resource: &ResourceName, page: Value) -> Result<Option<Value>, String> {
        let Value::Object(mut page) = page else { return Err(not_a_list(resource)) };
        let Some(Value::Array(tools)) = page.remove("tools") else { return Err(not_a_list(resource)) };
        for shown in tools {
            let Some(name) = shown.get("name").and_then(Value::as_str).map(str::to_owned) else { continue };
            let (Ok(tool), Ok(json)) = (format!("{resource}/{name}").parse(), Json::of(shown)) else {
                tracing::warn!(%resource, tool = name, "left out a tool that cannot be named or hashed");
                continue;
            };
            let digest = Sha256::of(json.canonical());
            let definition = Definition { tool, digest, shown: json.into_value() };
            if self.0.insert(name.clone(), definition).is_some() {
                return Err(format!("the upstream {resource} shows two tools of the name {name:?}"));
            }
            if self.0.len() > MOST {
                return Err(format!("the upstream {resource} shows more than {MOST} tools"));
            }
        }
        match page.remove("nextCursor") {
            None | Some(Value::Null) => Ok(None),
            Some(cursor @ Value::String(_)) => Ok(Some(cursor)),
            Some(_) => Err(not_a_list(resource)),
        }
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> Option<&Definition> {
        self.0.get(name)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.0.values()
    }
}

fn not_a_list(resource: &ResourceName) -> String {
    format!("the upstream {resource} answered tools/list with something that is no list of tools")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(page: Value) -> Result<(Definitions, Option<Value>), String> {
        let mut definitions = Definitions::default();
        let next = definitions.take(&"files".parse().unwrap(), page)?;
        Ok((definitions, next))
    }

    #[test]
    fn a_definition_has_one_digest_however_it_was_written() {
        let (one, _) = take(json!({ "tools": [{ "name": "read", "x": 1.0 }] })).unwrap();
        let (other, _) = take(json!({ "tools": [{ "x": 1, "name": "read" }] })).unwrap();
        let (changed, _) = take(json!({ "tools": [{ "x": 2, "name": "read" }] })).unwrap();
        let digest = |definitions: &Definitions| definitions.get("read").unwrap().digest;
        assert_eq!(digest(&one), digest(&other));
        assert_ne!(digest(&one), digest(&changed));
    }

    #[test]
    fn what_cannot_be_named_is_left_out_and_what_is_ambiguous_is_an_error() {
        let (shown, next) =
            take(json!({ "tools": [{ "name": "a b" }, { "name": "c" }, {}], "nextCursor": "2" })).unwrap();
        assert_eq!(shown.iter().map(|tool| tool.tool.to_string()).collect::<Vec<_>>(), ["files/c"]);
        assert_eq!(next, Some(json!("2")));
        assert!(take(json!({ "tools": [{ "name": "c" }, { "name": "c" }] })).is_err());
        assert!(take(json!({ "tools": {} })).is_err() && take(json!([])).is_err());
    }
}
