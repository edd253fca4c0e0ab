//! `writ node`: the machines whose agents have attested.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use registry::objects::{Node, NodeState, well_known};
use serde_json::json;
use spiffe::{Timestamp, TrustDomain};

use super::{
    Shared, Usage, admin,
    output::{self, Format, plain},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ node list
  writ node show web-1                  one node, or several, by name or SPIFFE ID
  writ node evict web-1                 web-1 must join again with a new token
  writ node set-environment web-1 prod  tasks of mandates for prod may begin there
  writ node ban web-1                   web-1 is refused, whatever it brings
  writ node purge --ended 24h --dry-run nodes that did not come back";

#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Show all nodes
    List,
    /// Show some nodes, by name or SPIFFE ID
    Show {
        /// Names or SPIFFE IDs.
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Forget a node; it may join again with a new token
    Evict {
        /// Its name or SPIFFE ID.
        node: String,
    },
    /// Refuse a node and its name from now on
    Ban {
        /// Its name or SPIFFE ID.
        node: String,
    },
    /// Say where a node stands; its tasks end where that changes
    SetEnvironment {
        /// Its name or SPIFFE ID.
        node: String,
        /// For example prod; nodes of which nobody has said any stand in `default`.
        environment: String,
    },
    /// Forget nodes whose certificate ended and that did not come back
    Purge {
        /// How long ago the certificate must have ended.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
        ended: Duration,
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(crate) async fn run(verb: NodeVerb, shared: &Shared) -> Result<ExitCode> {
    let mut server = admin::connect(shared).await?;
    match verb {
        NodeVerb::List => show(server.list("node", Vec::new()).await?, shared.output)?,
        NodeVerb::Show { nodes } => {
            let trust_domain = admin::trust_domain(&mut server).await?;
            let ids = nodes.iter().map(|node| id(node, &trust_domain));
            let ids: Vec<String> = ids.collect::<Result<_>>()?;
            let listed = server.list("node", ids.clone()).await?;
            let missing =
                |id: &String| !listed.iter().any(|node| node.key.to_string() == format!("node/{id}"));
            if let Some(n) = ids.iter().position(missing) {
                bail!("there is no node {:?}; `writ node list` shows those that have attested", nodes[n]);
            }
            show(listed, shared.output)?;
        }
        NodeVerb::Evict { node } => {
            server.evict_node(&node).await?;
            let text = format!("{} is forgotten; it may join again with a new token", plain(&node));
            output::show(shared.output, &json!({ "evicted": node }), |_| text)?;
        }
        NodeVerb::Ban { node } => {
            server.ban_node(&node).await?;
            output::show(shared.output, &json!({ "banned": node }), |_| {
                format!("{} is banned", plain(&node))
            })?;
        }
        NodeVerb::SetEnvironment { node, environment } => {
            server.set_environment(&node, &environment).await?;
            let text = format!("{} stands in {}", plain(&node), plain(&environment));
            output::show(shared.output, &json!({ "node": node, "environment": environment }), |_| text)?;
        }
        NodeVerb::Purge { ended, dry_run } => {
            let before = Timestamp::from_unix_millis(daemon::now_unix_millis()).before(ended);
            let nodes = server.purge_nodes(before, dry_run).await?;
            let text = match nodes.len() {
                0 => "no node to purge".to_owned(),
                _ => nodes.iter().map(|node| plain(node)).collect::<Vec<_>>().join("\n"),
            };
            output::show(shared.output, &json!({ "purged": nodes, "dry_run": dry_run }), |_| text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A node's SPIFFE ID, where a person may have written the name that its token gave it.
fn id(node: &str, trust_domain: &TrustDomain) -> Result<String> {
    if node.starts_with("spiffe://") {
        return Ok(node.to_owned());
    }
    let name = node.parse().map_err(|error: registry::objects::TextError| Usage(error.to_string()))?;
    Ok(well_known::joined_node(trust_domain, &name).to_string())
}

fn show(listed: Vec<server_api::admin::Listed>, format: Format) -> Result<()> {
    let nodes = listed.iter().map(|listed| serde_json::from_slice::<Node>(&listed.body));
    let nodes: Vec<Node> = nodes.collect::<Result<_, _>>().context("the server's node is of a newer kind")?;
    output::show(format, &json!({ "nodes": nodes }), |_| text(&nodes))?;
    Ok(())
}

fn text(nodes: &[Node]) -> String {
    let heading =
        ["NODE", "STATE", "ATTESTED BY", "ENVIRONMENT", "CERTIFICATE ENDS"].map(str::to_owned).to_vec();
    let rows = nodes.iter().map(|node| {
        let state = match node.state {
            NodeState::Joining => "joining",
            NodeState::Active => "active",
            NodeState::Banned => "banned",
            NodeState::Fenced => "fenced",
            NodeState::Restored => "restored",
        };
        let environment = node.stands_in().to_string();
        let attestor = plain(&node.attestor);
        vec![node.id.to_string(), state.to_owned(), attestor, environment, node.expires_at.to_string()]
    });
    output::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}
