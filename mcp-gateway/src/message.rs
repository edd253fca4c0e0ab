//! One JSON-RPC message, parsed once.

use authz::{BadJson, Json, Limits};
use serde_json::{Map, Value, json};

/// What a client says.
#[derive(Debug)]
pub(crate) enum Message {
    /// It waits for an answer.
    Request {
        /// To be repeated in the answer: a text or a number.
        id: Value,
        /// What it asks for.
        method: String,
        /// With what.
        params: Map<String, Value>,
    },
    /// It waits for nothing.
    Notification {
        /// What it tells.
        method: String,
    },
    /// It answers a request, and the gate asks none.
    Answer,
}

/// Why nothing is done: an error object of JSON-RPC.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
}

/// Objects and arrays inside one another.
const DEPTH: usize = 64;
/// An id that nobody needs longer.
const LONGEST_ID: usize = 256;

impl Message {
    /// Reads what is exactly one message. A batch is none: what hides behind its first call is not looked for.
    pub(crate) fn parse(bytes: &[u8], most: usize) -> Result<Self, Fault> {
        let json = Json::parse(bytes, Limits { bytes: most, depth: DEPTH }).map_err(|error| match error {
            BadJson::Malformed(_) => Fault::new(Fault::PARSE, format!("{error}")),
            error => Fault::new(Fault::INVALID_REQUEST, format!("{error}")),
        })?;
        let invalid = |why: &str| Fault::new(Fault::INVALID_REQUEST, why);
        let mut members = match json.into_value() {
            Value::Object(members) => members,
            Value::Array(_) => return Err(invalid("batches are not taken; send each message by itself")),
            _ => return Err(invalid("a message is a JSON object")),
        };
        if members.remove("jsonrpc") != Some(Value::from("2.0")) {
            return Err(invalid("a message has \"jsonrpc\": \"2.0\""));
        }
        let method = match members.remove("method") {
            Some(Value::String(method)) => Some(method),
            Some(_) => return Err(invalid("`method` is a text")),
            None => None,
        };
        let params = match members.remove("params") {
            Some(Value::Object(params)) => params,
            None => Map::new(),
            Some(_) => return Err(Fault::new(Fault::INVALID_PARAMS, "`params` is an object")),
        };
        let id = members.remove("id");
        let is_answer = members.remove("result").is_some() | members.remove("error").is_some();
        if let Some(unknown) = members.keys().next() {
            return Err(invalid(&format!("a message has no member {unknown:?}")));
        }
        match (method, id) {
            (Some(_), _) if is_answer => Err(invalid("a message is a request or an answer, not both")),
            (Some(method), None) => Ok(Self::Notification { method }),
            (Some(method), Some(id)) if is_id(&id) => Ok(Self::Request { id, method, params }),
            (Some(_), Some(_)) => Err(invalid("`id` is a text or a whole number")),
            (None, _) if is_answer => Ok(Self::Answer),
            (None, _) => Err(invalid("`method` is missing")),
        }
    }
}

fn is_id(id: &Value) -> bool {
    match id {
        Value::String(text) => text.len() <= LONGEST_ID,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

/// The answer to a request.
pub(crate) fn answer(id: &Value, answer: Result<Value, Fault>) -> Vec<u8> {
    let message = match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(fault) => json!({ "jsonrpc": "2.0", "id": id, "error": fault.to_value() }),
    };
    message.to_string().into_bytes()
}

impl Fault {
    pub(crate) const PARSE: i64 = -32700;
    pub(crate) const INVALID_REQUEST: i64 = -32600;
    pub(crate) const INVALID_PARAMS: i64 = -32602;
    pub(crate) const INTERNAL: i64 = -32603;
    /// AuthZEN's binding to MCP: the decision is no.
    pub(crate) const DENIED: i64 = -32001;
    /// MCP 2026-07-28: headers say something else than the body.
    pub(crate) const HEADER_MISMATCH: i64 = -32020;
    /// MCP 2026-07-28: this revision is not spoken.
    pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// A denial: the caller is told the reason's code.
    pub(crate) fn denied(reason: &str, requestable: bool) -> Self {
        let data = Some(json!({ "reason": reason, "requestable": requestable }));
        Self { code: Self::DENIED, message: format!("denied: {reason}"), data }
    }

    fn to_value(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> i64 {
        Message::parse(text.as_bytes(), 1000).unwrap_err().code
    }

    #[test]
    fn what_is_not_exactly_one_message_is_refused() {
        assert_eq!(code(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#), Fault::INVALID_REQUEST);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#), Fault::PARSE);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#), Fault::PARSE);
        assert_eq!(code(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#), Fault::INVALID_REQUEST);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#), Fault::INVALID_REQUEST);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#), Fault::INVALID_REQUEST);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#), Fault::INVALID_PARAMS);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#), Fault::INVALID_REQUEST);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"a","tool":"b"}"#), Fault::INVALID_REQUEST);
        assert_eq!(code(&format!(r#"{{"a":"{}"}}"#, "x".repeat(1000))), Fault::INVALID_REQUEST);
        assert_eq!(code(&"[".repeat(70)), Fault::INVALID_REQUEST);
    }

    #[test]
    fn requests_notifications_and_answers_are_told_apart() {
        let parse = |text: &str| Message::parse(text.as_bytes(), 1000).unwrap();
        assert!(matches!(parse(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#), Message::Request { .. }));
        assert!(matches!(parse(r#"{"jsonrpc":"2.0","method":"x"}"#), Message::Notification { .. }));
        assert!(matches!(parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Message::Answer));
    }
}
