//! `writ token`: how another machine joins.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use registry::objects::{Sha256, Token, TokenState};
use serde::Serialize;
use spiffe::Timestamp;

use super::{
    Shared, Usage, admin,
    output::{self, Format, plain},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ token create --node web-1           prints the line that makes the other machine join as web-1
  writ token create --ttl 1h               for a node with a random name
  writ token show                          which tokens wait, are bound to a key, or are spent
  writ token reset web-1                   frees a bound token for another key";

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a join token and print the whole line for the other machine
    Create {
        /// The node's name; without it the name is random.
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// How long the token can be used.
        #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
        ttl: Duration,
    },
    /// Show tokens: whether they were used, and by which key
    #[command(visible_alias = "list")]
    Show {
        /// Only these nodes' tokens.
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Free a token that is bound to a key, for another key
    Reset {
        /// The node's name.
        #[arg(value_name = "NODE")]
        node: String,
    },
}

/// What `create` prints as JSON.
#[derive(Serialize)]
struct Created {
    token: String,
    node: String,
    expires_at: Timestamp,
    server_address: String,
    pin: String,
    command: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

pub(crate) async fn run(verb: TokenVerb, shared: &Shared) -> Result<ExitCode> {
    let mut server = admin::connect(shared).await?;
    match verb {
        TokenVerb::Create { node, ttl } => {
            let seconds = match i64::try_from(ttl.as_secs()) {
                Ok(0) => {
                    return Err(Usage("--ttl is less than a second; write for example 10m".to_owned()).into());
                }
                Ok(seconds) => seconds,
                Err(_) => return Err(Usage("--ttl is too long; write for example 10m".to_owned()).into()),
            };
            let made = server.create_token(node.as_deref().unwrap_or(""), seconds).await?;
            let command = format!(
                "writ agent run --server {} --token {} --pin {}",
                made.server_address, made.token, made.pin
            );
            admin::warn(&made.warnings);
            if shared.output == Format::Text {
                output::remark(&format!(
                    "On the machine that is to be {}, by {}:",
                    plain(&made.node),
                    made.expires_at
                ));
            }
            let created = Created {
                token: made.token,
                node: made.node,
                expires_at: made.expires_at,
                server_address: made.server_address,
                pin: made.pin,
                command,
                warnings: made.warnings,
            };
            output::show(shared.output, &created, |created| created.command.clone())?;
        }
        TokenVerb::Show { nodes } => {
            let listed = server.list("token", nodes.clone()).await?;
            let tokens = listed.iter().map(|listed| serde_json::from_slice::<Token>(&listed.body));
            let tokens: Vec<Token> =
                tokens.collect::<Result<_, _>>().context("the server's token is of a newer kind")?;
            if let Some(missing) =
                nodes.iter().find(|node| !tokens.iter().any(|token| token.node.as_str() == *node))
            {
                bail!("there is no token for node {missing:?}; `writ token show` shows those that are there");
            }
            match shared.output {
                Format::Json => {
                    let shown: Vec<_> = tokens.iter().map(Shown::from).collect();
                    output::show(Format::Json, &serde_json::json!({ "tokens": shown }), |_| String::new())?;
                }
                Format::Text => output::show(Format::Text, &(), |()| text(&tokens))?,
            }
        }
        TokenVerb::Reset { node } => {
            server.reset_token(&node).await?;
            output::show(shared.output, &serde_json::json!({ "reset": node }), |_| {
                format!("the token of {} may be used by another key now", plain(&node))
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A token as it is shown: not even the secret's hash.
#[derive(Serialize)]
struct Shown<'a> {
    node: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_sha256: Option<&'a Sha256>,
    expires_at: Timestamp,
}

impl<'a> From<&'a Token> for Shown<'a> {
    fn from(token: &'a Token) -> Self {
        let (state, key_sha256) = match &token.state {
            TokenState::Fresh => ("fresh", None),
            TokenState::Bound { key_sha256 } => ("bound", Some(key_sha256)),
            TokenState::Spent { key_sha256 } => ("spent", Some(key_sha256)),
        };
        Self { node: token.node.as_str(), state, key_sha256, expires_at: token.expires_at }
    }
}

fn text(tokens: &[Token]) -> String {
    let heading = ["NODE", "STATE", "EXPIRES", "KEY"].map(str::to_owned).to_vec();
    let rows = tokens.iter().map(Shown::from).map(|token| {
        let key = token.key_sha256.map(|key| format!("sha256:{key}")).unwrap_or_default();
        vec![token.node.to_owned(), token.state.to_owned(), token.expires_at.to_string(), key]
    });
    if tokens.is_empty() {
        return "there are no tokens".to_owned();
    }
    output::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}
