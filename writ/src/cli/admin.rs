//! What the commands of an administrator share: the way to the server, and the names that people use
//! for what has a long one.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, bail};
use registry::objects::well_known;
use serde::Deserialize;
use serde_json::{Value, json};
use server_api::admin::{Applied, Client, Mode};
use spiffe::{Selector, TrustDomain};

use super::{Shared, output};

/// Connects to the server's private socket.
pub(crate) async fn connect(shared: &Shared) -> Result<Client> {
    let connected = Client::connect(&shared.sockets.server()?).await;
    connected.map_err(|error| {
        anyhow!("{error}; start a server with `writ up`, or name its socket with --socket or --data")
    })
}

/// The trust domain of the server.
pub(crate) async fn trust_domain(server: &mut Client) -> Result<TrustDomain> {
    #[derive(Deserialize)]
    struct Named {
        trust_domain: TrustDomain,
    }
    let named: Named =
        serde_json::from_slice(&server.status().await?).context("the server does not say its name")?;
    Ok(named.trust_domain)
}

/// A SPIFFE ID as people write it: whole, or as a path in the server's trust domain.
pub(crate) fn full_id(text: &str, trust_domain: &TrustDomain) -> String {
    if text.starts_with('/') { format!("{}{text}", trust_domain.id()) } else { text.to_owned() }
}

/// Where an entry counts.
#[derive(Debug, PartialEq)]
pub(crate) struct Parent {
    /// Its SPIFFE ID.
    pub(crate) id: String,
    /// The entry that must be there for it to mean anything: an alias for the nodes with some selectors.
    pub(crate) alias: Option<Value>,
}

impl Parent {
    /// A parent as people write it: a SPIFFE ID, a path, `any-node`, the name of a node that joined by
    /// token, or selectors that a node must have.
    pub(crate) fn named(words: &[String], trust_domain: &TrustDomain) -> Result<Self> {
        let plain = |id: String| Ok(Self { id, alias: None });
        match words {
            [word] if word == "any-node" => plain(well_known::any_node(trust_domain).to_string()),
            [word] if word.starts_with('/') || word.starts_with("spiffe://") => {
                plain(full_id(word, trust_domain))
            }
            [word] if !word.contains(':') => {
                plain(well_known::joined_node(trust_domain, &word.parse()?).to_string())
            }
            selectors => {
                let selectors = selectors.iter().map(|word| word.parse::<Selector>());
                let selectors: BTreeSet<Selector> = selectors.collect::<Result<_, _>>()?;
                let id = well_known::node_alias(trust_domain, &selectors);
                let server = well_known::server(trust_domain);
                let alias = json!({ "spiffe_id": id, "parent_id": server, "selectors": selectors });
                Ok(Self { id: id.to_string(), alias: Some(alias) })
            }
        }
    }

    /// Makes sure that the alias is there, and gives the ID.
    pub(crate) async fn made(self, server: &mut Client) -> Result<String> {
        if let Some(alias) = self.alias {
            apply_one(server, Mode::Upsert, "entry", serde_json::to_vec(&alias)?).await?;
        }
        Ok(self.id)
    }
}

/// Applies one object of a kind, and gives it back as it is then.
pub(crate) async fn apply_one(server: &mut Client, mode: Mode, kind: &str, body: Vec<u8>) -> Result<Applied> {
    let mut applied = server.apply(mode, kind, vec![body.into()]).await?;
    let Some(applied) = applied.pop() else { bail!("the server did not say what became of it") };
    if let Some((_, message)) = applied.refused() {
        bail!("{message}");
    }
    warn(&applied.warnings);
    Ok(applied)
}

/// Tells the administrator beside the result.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        output::remark(&format!("warning: {}", output::plain(warning)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_named_as_people_name_it() {
        let td: TrustDomain = "writ.local".parse().unwrap();
        for (said, meant) in [
            ("local", "spiffe://writ.local/spire/agent/join_token/local"),
            ("any-node", "spiffe://writ.local/writ/any-node"),
            ("/spire/server", "spiffe://writ.local/spire/server"),
            ("spiffe://writ.local/a", "spiffe://writ.local/a"),
        ] {
            assert_eq!(
                Parent::named(&[said.to_owned()], &td).unwrap(),
                Parent { id: meant.to_owned(), alias: None }
            );
        }
        assert_eq!(full_id("/hello", &td), "spiffe://writ.local/hello");
        assert!(Parent::named(&["no such name".to_owned()], &td).is_err());
    }

    #[test]
    fn selectors_of_nodes_are_one_parent_in_any_order() {
        let td: TrustDomain = "writ.local".parse().unwrap();
        let named = |words: [&str; 2]| Parent::named(&words.map(str::to_owned), &td).unwrap();
        let parent = named(["aws:zone:a", "aws:tag:web"]);
        assert_eq!(parent, named(["aws:tag:web", "aws:zone:a"]));
        assert!(parent.id.starts_with("spiffe://writ.local/writ/nodes/"));
        assert_eq!(parent.alias.unwrap()["parent_id"], "spiffe://writ.local/spire/server");
    }
}
