//! SPIFFE IDs with a meaning of their own: the server, nodes, and what stands for several nodes.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use spiffe::{Selector, SpiffeId, TrustDomain};

use super::{JoinToken, NodeName};

/// The path of [`server`].
pub(crate) const SERVER: &str = "/spire/server";
const ANY_NODE: &str = "/writ/any-node";
const NODE_ALIAS: &str = "/writ/nodes/";
const JOIN_TOKEN: &str = "/spire/agent/join_token/";
const NODE: &str = "/spire/agent/";

/// The server's own ID; entries with this parent stand for nodes (node aliases).
pub fn server(trust_domain: &TrustDomain) -> SpiffeId {
    id(trust_domain, SERVER)
}

/// The parent that every node answers to.
pub fn any_node(trust_domain: &TrustDomain) -> SpiffeId {
    id(trust_domain, ANY_NODE)
}

/// The ID of the alias for all nodes that have these selectors. It names the selectors by their
/// digest, so equal selectors give one alias and nobody can claim the ID for others.
pub fn node_alias(trust_domain: &TrustDomain, selectors: &BTreeSet<Selector>) -> SpiffeId {
    let mut context = digest::Context::new(&digest::SHA256);
    for selector in selectors {
        context.update(selector.as_str().as_bytes());
        context.update(b"\n"); // no selector holds a control character
    }
    id(trust_domain, &format!("{NODE_ALIAS}{}", hex::encode(context.finish())))
}

/// The ID of the node that joins with a token of this name.
pub fn joined_node(trust_domain: &TrustDomain, name: &NodeName) -> SpiffeId {
    id(trust_domain, &format!("{JOIN_TOKEN}{name}"))
}

/// The name of a node that joined with a token; `None` for any other ID.
pub fn joined_node_name(id: &SpiffeId) -> Option<NodeName> {
    id.path().strip_prefix(JOIN_TOKEN)?.parse().ok()
}

/// The selectors of an entry that gives a node a second name: the node itself.
pub fn itself(node: &SpiffeId) -> BTreeSet<Selector> {
    let selector = Selector::new("spiffe_id", node.as_str());
    selector.into_iter().collect()
}

/// Whether this is the form of a node's ID.
pub fn is_node(id: &SpiffeId) -> bool {
    id.path().starts_with(NODE)
}

/// SPIRE's scripts build a parent ID from a whole join token. This is the ID of that token's node,
/// so that the secret reaches neither the log nor a screen; any other ID stays what it is.
#[must_use]
pub fn without_token_secret(id: &SpiffeId) -> SpiffeId {
    let named = id.path().strip_prefix(JOIN_TOKEN).and_then(JoinToken::split);
    match named {
        Some((node, _)) => joined_node(&id.trust_domain(), &node),
        None => id.clone(),
    }
}

fn id(trust_domain: &TrustDomain, path: &str) -> SpiffeId {
    // A name of 255 bytes and a path of at most 200 stay below the limit of 2048.
    trust_domain.join(path).expect("these paths follow the standard")
}
