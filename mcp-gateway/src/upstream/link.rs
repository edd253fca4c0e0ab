//! The way to a server, whichever it is, and what both kinds have in common.

use serde_json::{Map, Value, json};

use super::{Failure, Reply, http::Http, stdio::Stdio};

/// A way to a server.
pub(super) enum Link {
    Stdio(Stdio),
    Http(Http),
}

/// What a server says.
pub(super) enum Said {
    /// The answer to the request with this id.
    Answer(u64, Reply),
    /// It asks something itself; with which id.
    Request(Value),
    /// Its tools are not what they were.
    ToolsChanged,
    /// Something else that is not for us.
    Nothing,
}

impl Link {
    /// Asks something; the parameters are JSON.
    pub(super) async fn request(&self, method: &str, params: Vec<u8>) -> Result<Reply, Failure> {
        match self {
            Self::Stdio(stdio) => stdio.request(method, &params).await,
            Self::Http(http) => http.request(method, &params).await,
        }
    }

    /// How often the server has said that its tools changed, or was started anew.
    pub(super) fn changes(&self) -> u64 {
        match self {
            Self::Stdio(stdio) => stdio.changes(),
            Self::Http(http) => http.changes(),
        }
    }
}

/// A request as bytes.
pub(super) fn request(id: u64, method: &str, params: &[u8]) -> Vec<u8> {
    let mut message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":"#).into_bytes();
    message.extend_from_slice(params);
    message.push(b'}');
    message
}

/// A notification as bytes.
pub(super) fn notification(method: &str, params: &Value) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string().into_bytes()
}

/// The answer to whatever a server asks: sampling, roots, elicitation and all else are denied.
pub(super) fn denial(id: &Value) -> Vec<u8> {
    let error = json!({ "code": -32001, "message": "denied: a server asks nothing through this gate" });
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string().into_bytes()
}

/// The gate's own parameters of `initialize`.
pub(super) fn greeting() -> Value {
    json!({
        "protocolVersion": REVISION,
        "capabilities": {},
        "clientInfo": { "name": "writ", "version": env!("CARGO_PKG_VERSION") },
    })
}

/// The revision that is spoken with servers.
pub(super) const REVISION: &str = "2025-11-25";

/// Reads one message of a server. A member that is there twice makes it none.
pub(super) fn read(bytes: &[u8]) -> Result<Said, String> {
    let value =
        spiffe::json::parse(bytes).map_err(|error| format!("it sent something that is no JSON: {error}"))?;
    let Value::Object(mut message) = value else { return Err("it sent something that is no message".into()) };
    match message.remove("method") {
        Some(method) => Ok(asked(&method, message.remove("id"))),
        None => answered(message),
    }
}

fn asked(method: &Value, id: Option<Value>) -> Said {
    match id {
        Some(id) => Said::Request(id),
        None if *method == "notifications/tools/list_changed" => Said::ToolsChanged,
        None => Said::Nothing,
    }
}

fn answered(mut message: Map<String, Value>) -> Result<Said, String> {
    let Some(id) = message.get("id").and_then(Value::as_u64) else {
        return Err("it answered something that was not asked".into());
    };
    match (message.remove("result"), message.remove("error")) {
        (Some(result @ Value::Object(_)), None) => Ok(Said::Answer(id, Reply::Result(result))),
        (None, Some(error @ Value::Object(_))) => Ok(Said::Answer(id, Reply::Error(error))),
        _ => Err("its answer has neither a result nor an error".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_read_strictly() {
        assert!(matches!(
            read(br#"{"jsonrpc":"2.0","id":7,"result":{}}"#),
            Ok(Said::Answer(7, Reply::Result(_)))
        ));
        assert!(matches!(read(br#"{"id":7,"error":{"code":1}}"#), Ok(Said::Answer(7, Reply::Error(_)))));
        assert!(matches!(read(br#"{"id":"x","method":"sampling/createMessage"}"#), Ok(Said::Request(_))));
        let changed = br#"{"method":"notifications/tools/list_changed"}"#;
        assert!(matches!(read(changed), Ok(Said::ToolsChanged)));
        for text in
            [r#"{"id":7,"result":{},"result":{}}"#, r#"{"id":7}"#, "[]", "{", r#"{"id":"7","result":{}}"#]
        {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn parameters_go_into_a_request_as_they_are() {
        let bytes = request(3, "tools/call", br#"{"name":"a","arguments":{"n":1}}"#);
        let text =
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"a","arguments":{"n":1}}}"#;
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }
}
