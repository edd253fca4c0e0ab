//! `tools/list`: what the upstream shows, less what the client's task cannot call at all.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    agent::{Client, Shown},
    gate::Gate,
    message::Fault,
    revision::Revision,
    upstream::Upstream,
};

/// The tools that the client may see. The list and the calls are judged by the same rules, so nothing is shown that
/// could never be called; what is shown may still be denied for its arguments or for what was read before.
pub(crate) async fn tools_list(
    gate: &Gate,
    upstream: &Arc<Upstream>,
    client: &Client,
    revision: Revision,
    params: &Map<String, Value>,
) -> Result<Value, Fault> {
    if let Some(unknown) = params.keys().find(|name| *name != "_meta") {
        return Err(Fault::new(
            Fault::INVALID_PARAMS,
            format!("tools/list takes no {unknown:?}: it has one page"),
        ));
    }
    let definitions = upstream.definitions(true).await.map_err(|failure| {
        tracing::warn!(resource = %upstream.name(), %failure, "cannot list tools");
        Fault::new(Fault::INTERNAL, "the upstream does not answer")
    })?;
    let shown: Vec<_> = definitions
        .iter()
        .map(|definition| Shown { tool: definition.tool.clone(), definition: definition.digest })
        .collect();
    let visible: BTreeSet<String> = gate.agent.visible(client, &shown).await?.into_iter().collect();
    let tools = definitions.iter().filter(|definition| visible.contains(definition.tool.as_str()));
    Ok(revision.list(tools.map(|definition| definition.shown.clone()).collect()))
}
