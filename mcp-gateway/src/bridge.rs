//! `writ mcp stdio --gate SOCKET`: for clients that can only start commands. Messages go from standard input to the
//! gate's socket, and answers back. It holds nothing, decides nothing, and is itself the process that asks.

use std::{io, path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use registry::scope::ResourceName;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::UnixStream, sync::mpsc, task::JoinSet};
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::{message::Fault, revision::VERSION};

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// The gate's socket.
    pub gate: PathBuf,
    /// Which of its resources; its only one where none is named.
    pub resource: Option<ResourceName>,
    /// For which task of the asking domain; its only one where none is named.
    pub task: Option<String>,
}

/// Carries messages until standard input ends and everything is answered.
pub async fn bridge(bridge: Bridge) -> io::Result<()> {
    let bridge = Arc::new(bridge);
    let mut lines = FramedRead::new(tokio::io::stdin(), LinesCodec::new_with_max_length(LINE_BYTES));
    let (say, mut said) = mpsc::channel::<Vec<u8>>(ANSWERS_WAITING);
    let writing = tokio::spawn(async move {
        let mut out = tokio::io::stdout();
        while let Some(mut answer) = said.recv().await {
            answer.push(b'\n');
            out.write_all(&answer).await?;
            out.flush().await?;
        }
        Ok::<_, io::Error>(())
    });
    let mut carried = JoinSet::new();
    while let Some(line) = lines.next().await {
        let line = line.map_err(io::Error::other)?;
        while carried.try_join_next().is_some() {}
        if line.trim().is_empty() {
            continue;
        }
        let (bridge, say) = (bridge.clone(), say.clone());
        carried.spawn(async move {
            if let Some(answer) = bridge.carry(line).await {
                // If nobody reads any more, the next write says so.
                let _ = say.send(answer).await;
            }
        });
    }
    while carried.join_next().await.is_some() {}
    drop(say);
    writing.await.map_err(io::Error::other)?
}

impl Bridge {
    /// The gate's answer to one message (JSON-RPC), on one line; `None` where none is due. Whoever calls this is the
    /// process that asks.
    pub async fn carry(&self, line: String) -> Option<Vec<u8>> {
        let message: Value = serde_json::from_str(&line).unwrap_or_default();
        match self.ask(line, &message).await {
            Ok((StatusCode::ACCEPTED, _)) => None,
            Ok((_, Some(answer))) => Some(answer),
            Ok((status, None)) => unanswered(&message, &format!("the gate answered with status {status}")),
            Err(why) => {
                unanswered(&message, &format!("the gate {} cannot be asked: {why}", self.gate.display()))
            }
        }
    }

    async fn ask(
        &self,
        line: String,
        message: &Value,
    ) -> Result<(StatusCode, Option<Vec<u8>>), Box<dyn std::error::Error + Send + Sync>> {
        let stream = UnixStream::connect(&self.gate).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(self.request(line, message)?).await?;
        let status = answer.status();
        let is_json =
            answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
        connection.abort();
        Ok((status, is_json.then(|| body.to_vec())))
    }

    /// The headers that the message's own revision wants; they repeat what is in it.
    fn request(&self, line: String, message: &Value) -> Result<Request<Full<Bytes>>, http::Error> {
        let path = match &self.resource {
            Some(resource) => format!("/mcp/{resource}"),
            None => "/mcp".to_owned(),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "gate")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(task) = &self.task {
            request = request.header("writ-task", task);
        }
        let params = &message["params"];
        if let (Some(version), Some(method)) = (params["_meta"][VERSION].as_str(), message["method"].as_str())
        {
            request = request.header("mcp-protocol-version", version).header("mcp-method", method);
            let named = match method {
                "tools/call" | "prompts/get" => params["name"].as_str(),
                "resources/read" => params["uri"].as_str(),
                _ => None,
            };
            if let Some(name) = named {
                request = request.header("mcp-name", encoded(name));
            }
        }
        request.body(Full::new(line.into()))
    }
}

/// A name as a header can carry it.
fn encoded(name: &str) -> String {
    let is_plain = HeaderValue::from_str(name).is_ok_and(|value| value.to_str().is_ok())
        && name.trim() == name
        && !name.starts_with("=?base64?");
    if is_plain { name.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(name)) }
}

/// Whoever waits for an answer gets one.
fn unanswered(message: &Value, why: &str) -> Option<Vec<u8>> {
    let id = message.get("id").filter(|_| message.get("method").is_some())?;
    let error = json!({ "code": Fault::INTERNAL, "message": why });
    Some(json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string().into_bytes())
}

const LINE_BYTES: usize = 4 * 1024 * 1024;
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
const ANSWERS_WAITING: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_header_can_carry_is_encoded() {
        assert_eq!(encoded("read_file"), "read_file");
        assert_eq!(encoded("lesen\u{fc}"), "=?base64?bGVzZW7DvA==?=");
        assert_eq!(encoded(" a"), "=?base64?IGE=?=");
    }

    #[test]
    fn only_who_waits_is_told_that_there_is_no_answer() {
        assert!(unanswered(&json!({ "method": "x" }), "y").is_none());
        assert!(unanswered(&json!({ "id": 1, "result": {} }), "y").is_none());
        assert!(unanswered(&json!({ "id": 1, "method": "ping" }), "y").is_some());
    }
}
