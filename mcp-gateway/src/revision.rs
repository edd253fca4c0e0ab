//! What differs between the revisions of MCP. With both, the gate keeps no session.

use serde_json::{Map, Value, json};

use crate::message::Fault;

/// How a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Revision {
    /// It greets with `initialize`; up to 2025-11-25.
    Greeting,
    /// Each request says for itself which revision it is of: 2026-07-28.
    Stateless,
}

const STATELESS: &str = "2026-07-28";
const GREETING: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Where a request of 2026-07-28 says its revision.
pub(crate) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER: &str = "io.modelcontextprotocol/serverInfo";

impl Revision {
    /// The revision of a request, by what is in it.
    pub(crate) fn of(params: &Map<String, Value>) -> Result<Self, Fault> {
        let meta = match params.get("_meta") {
            None => return Ok(Self::Greeting),
            Some(Value::Object(meta)) => meta,
            Some(_) => return Err(Fault::new(Fault::INVALID_PARAMS, "`_meta` is an object")),
        };
        match meta.get(VERSION) {
            None => Ok(Self::Greeting),
            Some(Value::String(version)) if version == STATELESS => match meta.get(CAPABILITIES) {
                Some(Value::Object(_)) => Ok(Self::Stateless),
                _ => {
                    Err(Fault::new(Fault::INVALID_PARAMS, format!("`_meta` has no object {CAPABILITIES:?}")))
                }
            },
            Some(Value::String(version)) => {
                let data = json!({ "supported": [STATELESS], "requested": version });
                let fault = Fault::new(Fault::UNSUPPORTED_VERSION, "Unsupported protocol version");
                Err(Fault { data: Some(data), ..fault })
            }
            Some(_) => Err(Fault::new(Fault::INVALID_PARAMS, format!("{VERSION:?} is a text"))),
        }
    }

    /// A result as the revision has it.
    pub(crate) fn complete(self, mut result: Value) -> Value {
        match (self, result.as_object_mut()) {
            (Self::Stateless, Some(members)) => {
                members.insert("resultType".into(), "complete".into());
            }
            (Self::Greeting, Some(members)) => drop(members.remove("resultType")),
            (_, None) => {}
        }
        result
    }

    /// A list that only this client may see, and only now.
    pub(crate) fn list(self, tools: Vec<Value>) -> Value {
        match self {
            Self::Greeting => json!({ "tools": tools }),
            Self::Stateless => self.complete(json!({ "tools": tools, "ttlMs": 0, "cacheScope": "private" })),
        }
    }
}

/// The answer to `initialize`: the revision that was asked for, or the newest that greets.
pub(crate) fn greeted(params: &Map<String, Value>, resource: &str) -> Value {
    let wanted = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let version = GREETING.iter().find(|known| **known == wanted).unwrap_or(&GREETING[0]);
    json!({ "protocolVersion": version, "capabilities": { "tools": {} }, "serverInfo": named(resource) })
}

/// The answer to `server/discover`.
pub(crate) fn discovered(resource: &str) -> Value {
    Revision::Stateless.complete(json!({
        "supportedVersions": [STATELESS],
        "capabilities": { "tools": {} },
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": { SERVER: named(resource) },
    }))
}

fn named(resource: &str) -> Value {
    json!({ "name": resource, "title": format!("{resource}, through writ"), "version": env!("CARGO_PKG_VERSION") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(meta: Value) -> Result<Revision, i64> {
        let params = json!({ "_meta": meta });
        Revision::of(params.as_object().unwrap()).map_err(|fault| fault.code)
    }

    #[test]
    fn a_request_says_its_revision_or_is_of_one_that_greets() {
        assert_eq!(Revision::of(&Map::new()).unwrap(), Revision::Greeting);
        assert_eq!(revision(json!({ "progressToken": 1 })), Ok(Revision::Greeting));
        assert_eq!(revision(json!({ VERSION: STATELESS, CAPABILITIES: {} })), Ok(Revision::Stateless));
        assert_eq!(revision(json!({ VERSION: STATELESS })), Err(Fault::INVALID_PARAMS));
        assert_eq!(revision(json!({ VERSION: "2027-01-01" })), Err(Fault::UNSUPPORTED_VERSION));
        assert_eq!(revision(json!({ VERSION: 1 })), Err(Fault::INVALID_PARAMS));
    }

    #[test]
    fn an_older_client_gets_the_revision_that_it_asks_for_if_it_greets() {
        let asked = |version: &str| {
            let params = json!({ "protocolVersion": version });
            greeted(params.as_object().unwrap(), "files")["protocolVersion"].clone()
        };
        assert_eq!(asked("2025-03-26"), "2025-03-26");
        assert_eq!(asked("1999-01-01"), "2025-11-25");
    }
}
