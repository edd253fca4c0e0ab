//! `writ authority`: the keys that this trust domain believes, and how they take turns.

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Subcommand, ValueEnum};
use registry::objects::{Authority, AuthorityId, Slot, Use};
use serde::Serialize;
use server_api::authority::{Client, Turned};
use spiffe::Timestamp;

use super::{Shared, admin, output, sockets};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ authority list                      which authorities there are, and which of them sign
  writ authority prepare x509              publishes a new one, so that everyone knows it before it signs
  writ authority activate 5d0c…            lets the prepared one sign; the one that did becomes old
  writ authority taint 81fa…               has whatever an old one signed replaced at once
  writ authority revoke 81fa…              trusts nothing any more that a tainted one signed";

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityVerb {
    /// Show the authorities
    #[command(visible_alias = "show")]
    List,
    /// Make another authority and publish it
    Prepare {
        /// What it signs.
        #[arg(value_name = "USE")]
        used_for: Signs,
    },
    /// Let the prepared authority sign from now on
    Activate(Named),
    /// Have whatever an old authority signed replaced at once
    Taint(Named),
    /// Trust nothing any more that a tainted authority signed
    Revoke(Named),
}

/// What an authority signs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Signs {
    /// Certificates.
    X509,
    /// Tokens.
    Jwt,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The authority's id, as `writ authority list` shows it.
    #[arg(value_name = "ID")]
    id: AuthorityId,
}

pub(crate) async fn run(verb: AuthorityVerb, shared: &Shared) -> Result<ExitCode> {
    match verb {
        AuthorityVerb::List => {
            let mut shown: Vec<_> = authorities(shared).await?.iter().map(Shown::from).collect();
            shown.sort_by_key(|authority| (authority.used_for, authority.not_after));
            let listed = serde_json::json!({ "authorities": shown });
            output::show(shared.output, &listed, |_| text(&shown))?;
        }
        AuthorityVerb::Prepare { used_for } => {
            let used_for = match used_for {
                Signs::X509 => Use::X509,
                Signs::Jwt => Use::Jwt,
            };
            let made = connect(shared).await?.prepare(used_for).await?;
            said(shared, "prepared", &made, "is published; let it sign with: writ authority activate ")?;
        }
        AuthorityVerb::Activate(Named { id }) => {
            let used_for = used_for(shared, &id).await?;
            let done = connect(shared).await?.activate(used_for, &id).await?;
            said(shared, "activated", &done, "signs from now on")?;
        }
        AuthorityVerb::Taint(Named { id }) => {
            let used_for = used_for(shared, &id).await?;
            let done = connect(shared).await?.taint(used_for, &id).await?;
            said(
                shared,
                "tainted",
                &done,
                "is tainted: what it signed is replaced now; then: writ authority revoke ",
            )?;
        }
        AuthorityVerb::Revoke(Named { id }) => {
            let used_for = used_for(shared, &id).await?;
            let done = connect(shared).await?.revoke(used_for, &id).await?;
            said(shared, "revoked", &done, "is trusted no more")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn connect(shared: &Shared) -> Result<Client> {
    let socket = shared.sockets.server()?;
    let connected = Client::connect(&socket).await;
    connected.map_err(|error| anyhow!("{error}; {}", sockets::way_out(&socket, "server")))
}

async fn authorities(shared: &Shared) -> Result<Vec<Authority>> {
    let listed = admin::connect(shared).await?.list("authority", Vec::new()).await?;
    let read = listed.iter().map(|listed| serde_json::from_slice::<Authority>(&listed.body));
    read.collect::<Result<_, _>>().context("the server's authority is of a newer kind")
}

async fn used_for(shared: &Shared, id: &AuthorityId) -> Result<Use> {
    match authorities(shared).await?.iter().find(|authority| authority.id == *id) {
        Some(authority) => Ok(authority.used_for()),
        None => bail!("there is no authority {id}; see: writ authority list"),
    }
}

fn said(shared: &Shared, done: &str, turned: &Turned, then: &str) -> Result<()> {
    let told = serde_json::json!({ done: turned.id, "not_after": turned.not_after });
    output::show(shared.output, &told, |_| match then.ends_with(' ') {
        true => format!("authority {} {then}{}", turned.id, turned.id),
        false => format!("authority {} {then}", turned.id),
    })?;
    Ok(())
}

/// An authority as it is shown: without its public key, which the bundle has.
#[derive(Serialize)]
struct Shown {
    id: AuthorityId,
    #[serde(rename = "use")]
    used_for: Use,
    slot: &'static str,
    tainted: bool,
    not_before: Timestamp,
    not_after: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    retire_at: Option<Timestamp>,
}

impl From<&Authority> for Shown {
    fn from(authority: &Authority) -> Self {
        let (slot, retire_at) = match authority.slot {
            Slot::Prepared => ("prepared", None),
            Slot::Active => ("active", None),
            Slot::Old { retire_at, .. } => ("old", Some(retire_at)),
        };
        Self {
            id: authority.id.clone(),
            used_for: authority.used_for(),
            slot,
            tainted: authority.is_tainted(),
            not_before: authority.not_before,
            not_after: authority.not_after,
            retire_at,
        }
    }
}

fn text(authorities: &[Shown]) -> String {
    let heading = ["ID", "USE", "SLOT", "UNTIL", "PUBLISHED UNTIL"].map(str::to_owned).to_vec();
    let rows = authorities.iter().map(|authority| {
        let used_for = match authority.used_for {
            Use::X509 => "x509",
            Use::Jwt => "jwt",
        };
        let slot = if authority.tainted { "old, tainted" } else { authority.slot };
        let retire_at = authority.retire_at.map(|at| at.to_string()).unwrap_or_default();
        vec![
            authority.id.to_string(),
            used_for.to_owned(),
            slot.to_owned(),
            authority.not_after.to_string(),
            retire_at,
        ]
    });
    output::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}
