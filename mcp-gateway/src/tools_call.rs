//! `tools/call`: the story for which the gate is there.

use std::sync::Arc;

use bytes::Bytes;
use registry::scope::Label;
use serde_json::{Map, Value};

use crate::{
    agent::{Client, How, Permit, Running, Shown},
    gate::Gate,
    message::Fault,
    revision::Revision,
    upstream::{Failure, Reply, Upstream},
};

/// Calls a tool for the client's task, if the agent permits it. What is forwarded are the agent's bytes; what comes
/// back is released when what it carries is part of the task's label.
pub(crate) async fn tools_call(
    gate: &Arc<Gate>,
    upstream: &Arc<Upstream>,
    client: &Client,
    revision: Revision,
    params: Map<String, Value>,
) -> Result<Value, Fault> {
    let wanted = Wanted::parse(params)?;
    let definitions = upstream.definitions(false).await.map_err(|failure| unanswered(upstream, &failure))?;
    let Some(definition) = definitions.get(&wanted.name) else {
        // Asked all the same: names that are tried out are counted.
        return Err(undefined(gate, upstream, client, wanted).await);
    };
    let shown = Shown { tool: definition.tool.clone(), definition: definition.digest };
    let permit = gate.agent.ask(client, &shown, wanted.arguments).await?;
    // From here on the call runs to its end whoever waits for it, so that its outcome is known.
    let call = Call { gate: gate.clone(), upstream: upstream.clone(), name: wanted.name };
    let done = tokio::spawn(call.make(permit)).await;
    let result = done.map_err(|_| Fault::new(Fault::INTERNAL, "the call broke"))??;
    Ok(revision.complete(result))
}

/// What a client wants called.
struct Wanted {
    name: String,
    arguments: Bytes,
}

impl Wanted {
    fn parse(mut params: Map<String, Value>) -> Result<Self, Fault> {
        let invalid = |why: &str| Fault::new(Fault::INVALID_PARAMS, why);
        let Some(Value::String(name)) = params.remove("name") else {
            return Err(invalid("tools/call needs the `name` of a tool"));
        };
        let arguments = match params.remove("arguments") {
            None => Value::Object(Map::new()),
            Some(arguments @ Value::Object(_)) => arguments,
            Some(_) => return Err(invalid("`arguments` is an object")),
        };
        // Says for which of the client's requests progress is meant, and the like; none of it is forwarded.
        params.remove("_meta");
        match params.keys().next() {
            // A call that goes on later, or that answers a question of the upstream, is not one decision.
            Some(other) => Err(invalid(&format!("tools/call through this gate takes no {other:?}"))),
            None => Ok(Self { name, arguments: arguments.to_string().into() }),
        }
    }
}

/// A call that is permitted.
struct Call {
    gate: Arc<Gate>,
    upstream: Arc<Upstream>,
    name: String,
}

impl Call {
    async fn make(self, permit: Permit) -> Result<Value, Fault> {
        let arguments = permit.arguments().clone();
        let running = permit.spend()?; // the task, once more
        let answered = tokio::select! {
            biased;
            () = running.voided() => None,
            answered = self.upstream.call(&self.name, &arguments) => Some(answered),
        };
        match answered {
            None => {
                running.end(How::Unknown);
                Err(Fault::denied("task_ended", false))
            }
            Some(Ok(Reply::Result(result))) => {
                let how = if result["isError"] == true { How::Failed } else { How::Executed };
                self.release(running, how, result).await
            }
            Some(Ok(Reply::Error(error))) => {
                let error = self.release(running, How::Failed, error).await?;
                Err(told(&error))
            }
            Some(Err(failure)) => {
                let not_sent = matches!(failure, Failure::NotSent(_));
                running.end(if not_sent { How::NotSent } else { How::Unknown });
                Err(unanswered(&self.upstream, &failure))
            }
        }
    }

    /// INVARIANT: not one byte of an answer leaves before its label is part of the task's, durably.
    async fn release(&self, running: Running, how: How, answer: Value) -> Result<Value, Fault> {
        let found: Label = self.gate.found_in(&answer);
        running.finish(how, &found).await?;
        Ok(answer)
    }
}

/// A tool that the upstream does not show is denied by whoever decides, and counted there.
async fn undefined(gate: &Gate, upstream: &Upstream, client: &Client, wanted: Wanted) -> Fault {
    let named = format!("{}/{}", upstream.name(), wanted.name);
    let Ok(tool) = named.parse() else { return Fault::denied("unknown_tool", false) };
    let shown = Shown { tool, definition: registry::objects::Sha256::of(b"") };
    match gate.agent.ask(client, &shown, wanted.arguments).await {
        Err(refused) => refused.into(),
        // Given back unspent: there is nothing to forward it to.
        Ok(_unspent) => Fault::denied("unknown_tool", false),
    }
}

/// An upstream's own error, as it said it.
fn told(error: &Value) -> Fault {
    let message = error["message"].as_str().unwrap_or("the upstream reports an error").to_owned();
    let code = error["code"].as_i64().filter(|code| *code != Fault::DENIED).unwrap_or(Fault::INTERNAL);
    Fault { code, message, data: error.get("data").cloned() }
}

/// Strangers learn nothing of why.
fn unanswered(upstream: &Upstream, failure: &Failure) -> Fault {
    tracing::warn!(resource = %upstream.name(), %failure, "an upstream gave no answer");
    Fault::new(Fault::INTERNAL, "the upstream gave no answer; whether it did what was asked for is not known")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(params: Value) -> Result<Wanted, Fault> {
        let Value::Object(params) = params else { unreachable!() };
        Wanted::parse(params)
    }

    #[test]
    fn a_call_is_a_name_and_arguments_and_nothing_else() {
        let call =
            wanted(json!({ "name": "read", "arguments": { "b": 1 }, "_meta": { "progressToken": 1 } }));
        assert_eq!(call.unwrap().arguments, r#"{"b":1}"#);
        assert_eq!(wanted(json!({ "name": "read" })).unwrap().arguments, "{}");
        for params in [
            json!({}),
            json!({ "name": 1 }),
            json!({ "name": "a", "arguments": [] }),
            json!({ "name": "a", "task": { "ttl": 1 } }),
            json!({ "name": "a", "inputResponses": {} }),
        ] {
            assert_eq!(wanted(params).err().unwrap().code, Fault::INVALID_PARAMS);
        }
    }

    #[test]
    fn an_upstream_cannot_speak_in_the_gates_name() {
        assert_eq!(told(&json!({ "code": -32001, "message": "denied: x" })).code, Fault::INTERNAL);
        assert_eq!(told(&json!({ "code": -32602, "message": "bad path" })).message, "bad path");
    }
}
