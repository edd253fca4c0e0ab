//! MCP's streamable HTTP on the gate's socket: one message comes, one answer goes.
//!
//! There is no session and no stream of the server's own: `GET` and `DELETE` are not served.

use std::{sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use peer::Peer;
use serde_json::{Map, Value};

use crate::{
    agent::Client,
    gate::Gate,
    message::{self, Fault, Message},
    methods,
    revision::{Revision, VERSION},
};

/// Answers one request of the process at the other end.
pub(crate) async fn respond(
    gate: Arc<Gate>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    if let Err(changed) = peer.check() {
        tracing::info!(pid = peer.pid(), %changed, "closed a connection");
        return plain(
            StatusCode::FORBIDDEN,
            "this process is no longer the one that connected; connect again",
        );
    }
    let (head, body) = request.into_parts();
    let Some(resource) = resource_of(head.uri.path()) else {
        return plain(StatusCode::NOT_FOUND, "nothing is served here; MCP is at /mcp/RESOURCE");
    };
    let Some(upstream) = gate.upstream(resource).cloned() else {
        return plain(StatusCode::NOT_FOUND, "no such resource is behind this gate; MCP is at /mcp/RESOURCE");
    };
    if head.method != Method::POST {
        let mut refusal =
            plain(StatusCode::METHOD_NOT_ALLOWED, "messages come by POST; this gate has no streams");
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return refusal;
    }
    if !is_json(&head.headers) {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a message is application/json");
    }
    let mut client = Client { peer, task: String::new() };
    // Nobody is asked about it, and still it is on record.
    let refuse = async |client: &Client, fault: Fault| {
        gate.agent.malformed(client, upstream.name(), &fault.message).await;
        faulty(StatusCode::BAD_REQUEST, fault)
    };
    let headers = match Headers::read(&head.headers) {
        Ok(headers) => headers,
        Err(fault) => return refuse(&client, fault).await,
    };
    client.task = headers.task.clone().unwrap_or_default();
    let Some(body) = read(body, gate.limits.request_bytes).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "the message is too long, or did not come in time");
    };
    let (id, method, params) = match Message::parse(&body, gate.limits.request_bytes) {
        Err(fault) => return refuse(&client, fault).await,
        Ok(Message::Request { id, method, params }) => (id, method, params),
        Ok(Message::Notification { method }) => {
            return match headers.agree_on_method(&method, false) {
                Ok(()) => plain(StatusCode::ACCEPTED, ""),
                Err(fault) => refuse(&client, fault).await,
            };
        }
        Ok(Message::Answer) => return plain(StatusCode::ACCEPTED, ""),
    };
    let answer = match headers.agree(&method, &params) {
        Err(fault) => {
            gate.agent.malformed(&client, upstream.name(), &fault.message).await;
            Err(fault)
        }
        Ok(()) => {
            let Some(_place) = gate.admit(client.peer.process()) else {
                return plain(StatusCode::TOO_MANY_REQUESTS, "this process has too many calls in flight");
            };
            methods::answer(&gate, &upstream, &client, &method, params).await
        }
    };
    let status = match &answer {
        Err(fault) if [Fault::HEADER_MISMATCH, Fault::UNSUPPORTED_VERSION].contains(&fault.code) => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::OK,
    };
    json(status, message::answer(&id, answer))
}

/// What a client says beside the message. It decides nothing; where it says something else than the message, both
/// are refused, since somebody on the way may have believed the other one.
#[derive(Debug, Default)]
struct Headers {
    version: Option<String>,
    method: Option<String>,
    name: Option<String>,
    task: Option<String>,
}

impl Headers {
    fn read(headers: &HeaderMap) -> Result<Self, Fault> {
        let one = |name: &str| {
            let mut all = headers.get_all(name).iter();
            let first = all.next();
            if all.next().is_some() {
                return Err(mismatch(&format!("the header {name} is there twice")));
            }
            let text = first.map(HeaderValue::to_str).transpose();
            Ok(text.map_err(|_| mismatch(&format!("the header {name} is no text")))?.map(str::to_owned))
        };
        let name = one("mcp-name")?.map(|name| decoded(&name)).transpose()?;
        Ok(Self {
            version: one("mcp-protocol-version")?,
            method: one("mcp-method")?,
            name,
            task: one("writ-task")?,
        })
    }

    /// Whether everything that is said twice is said alike.
    fn agree(&self, method: &str, params: &Map<String, Value>) -> Result<(), Fault> {
        let stateless = Revision::of(params)? == Revision::Stateless;
        let said = params.get("_meta").and_then(|meta| meta.get(VERSION)).and_then(Value::as_str);
        match (&self.version, said) {
            (Some(header), Some(body)) if header == body => {}
            (_, Some(_)) => {
                return Err(mismatch("the header MCP-Protocol-Version is not what the message says"));
            }
            (Some(header), None) if header.as_str() >= "2026-07-28" => {
                return Err(mismatch("the message does not say the revision of its header"));
            }
            (_, None) => {}
        }
        self.agree_on_method(method, stateless)?;
        let named = match method {
            "tools/call" | "prompts/get" => params.get("name"),
            "resources/read" => params.get("uri"),
            _ => None,
        };
        match (&self.name, named.and_then(Value::as_str)) {
            (Some(header), Some(body)) if header == body => Ok(()),
            (None, None) => Ok(()),
            (None, Some(_)) if !stateless => Ok(()),
            _ => Err(mismatch("the header Mcp-Name is not what the message names")),
        }
    }

    fn agree_on_method(&self, method: &str, required: bool) -> Result<(), Fault> {
        match &self.method {
            Some(header) if header == method => Ok(()),
            None if !required => Ok(()),
            _ => Err(mismatch("the header Mcp-Method is not the message's method")),
        }
    }
}

/// A name that is no ASCII comes as `=?base64?…?=`.
fn decoded(name: &str) -> Result<String, Fault> {
    let Some(encoded) = name.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Ok(name.to_owned());
    };
    let bytes = STANDARD.decode(encoded).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| mismatch("the header Mcp-Name is no text"))
}

fn mismatch(why: &str) -> Fault {
    Fault::new(Fault::HEADER_MISMATCH, why)
}

/// `/mcp/RESOURCE`, or `/mcp` where the gate has only one.
fn resource_of(path: &str) -> Option<Option<&str>> {
    let rest = path.strip_prefix("/mcp")?;
    match rest.trim_end_matches('/') {
        "" => Some(None),
        rest => rest.strip_prefix('/').filter(|name| !name.contains('/')).map(Some),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The whole body; `None` where it is too long or too slow.
async fn read(mut body: Incoming, most: usize) -> Option<Bytes> {
    let whole = async {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.ok()?.into_data() {
                if whole.len() + data.len() > most {
                    return None;
                }
                whole.extend_from_slice(&data);
            }
        }
        Some(whole.freeze())
    };
    tokio::time::timeout(BODY_WITHIN, whole).await.ok()?
}

fn faulty(status: StatusCode, fault: Fault) -> Response<Full<Bytes>> {
    json(status, message::answer(&Value::Null, Err(fault)))
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    response(status, "application/json", body)
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain", text.as_bytes().to_vec())
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const BODY_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agree(headers: &[(&'static str, &str)], params: &Value) -> Result<(), Fault> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Headers::read(&map)?.agree("tools/call", params.as_object().unwrap())
    }

    #[test]
    fn what_a_header_says_otherwise_than_the_message_is_refused() {
        let old = json!({ "name": "delete_file" });
        assert!(agree(&[], &old).is_ok());
        assert!(agree(&[("mcp-name", "delete_file"), ("mcp-method", "tools/call")], &old).is_ok());
        assert!(agree(&[("mcp-name", "=?base64?ZGVsZXRlX2ZpbGU=?=")], &old).is_ok());
        for headers in [
            &[("mcp-name", "read_file")][..],
            &[("mcp-method", "tools/list")],
            &[("mcp-name", "delete_file"), ("mcp-name", "read_file")],
            &[("mcp-name", "=?base64?%?=")],
            &[("mcp-protocol-version", "2026-07-28")],
        ] {
            assert_eq!(agree(headers, &old).unwrap_err().code, Fault::HEADER_MISMATCH, "{headers:?}");
        }
    }

    #[test]
    fn a_stateless_request_says_everything_twice() {
        let meta = json!({ VERSION: "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
        let new = json!({ "name": "read", "_meta": meta });
        let all =
            [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "read")];
        assert!(agree(&all, &new).is_ok());
        for left_out in 0..3 {
            let some: Vec<_> =
                all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, h)| *h).collect();
            assert_eq!(agree(&some, &new).unwrap_err().code, Fault::HEADER_MISMATCH);
        }
    }

    #[test]
    fn a_path_names_a_resource_or_the_only_one() {
        assert_eq!(resource_of("/mcp"), Some(None));
        assert_eq!(resource_of("/mcp/"), Some(None));
        assert_eq!(resource_of("/mcp/files"), Some(Some("files")));
        assert_eq!(resource_of("/mcp/files/x"), None);
        assert_eq!(resource_of("/mcpx"), None);
        assert_eq!(resource_of("/"), None);
    }
}
