//! `writ entry`: who may be what.

mod fields;

use std::{fmt::Write as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use registry::objects::{Actor, Entry};
use serde::Serialize;
use serde_json::{Value, json};
use server_api::admin::{Client, Mode};

use super::{
    Shared, admin,
    output::{self, plain},
};
use fields::{Changes, Needed};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ entry create --spiffe-id /web --parent local --selector unix:uid:1000
  writ entry create --spiffe-id /db --parent web-1 --selector unix:user:postgres --selector unix:path:/usr/bin/postgres --ttl 15m
  writ entry show                                    all of them; `writ entry list` is the same
  writ entry list --output json | writ apply -f -    changes nothing
  writ entry update 4f0c… --ttl 5m
  writ entry update 4f0c… --dns web.acme.example --clear hint --clear expires-at
  writ entry delete 4f0c…
  writ entry count";

#[derive(Debug, Subcommand)]
pub(crate) enum EntryVerb {
    /// Say that processes with these selectors, on this node, have this SPIFFE ID
    Create(Create),
    /// Show entries; all of them where none is named
    #[command(visible_alias = "list")]
    Show {
        /// Ids of entries.
        #[arg(value_name = "ID")]
        ids: Vec<String>,
    },
    /// Change the named fields of an entry, or clear them
    Update {
        /// The entry's id.
        id: String,
        #[command(flatten)]
        fields: Changes,
    },
    /// Delete entries; their holders lose the identity at once
    Delete {
        /// Ids of entries.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Count the entries
    Count,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The entry's own id; without it the server makes one.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    needed: Needed,
}

pub(crate) async fn run(verb: EntryVerb, shared: &Shared) -> Result<ExitCode> {
    let mut server = admin::connect(shared).await?;
    match verb {
        EntryVerb::Create(create) => {
            let mut body = create.needed.fields()?.to_json();
            if let Some(id) = create.id {
                body["id"] = id.into();
            }
            change(&mut server, Mode::Create, &body, shared).await?;
        }
        EntryVerb::Show { ids } => {
            let entries = list(&mut server, ids).await?;
            let actors: Vec<Actor> = admin::listed(&mut server, "actor", Vec::new()).await?;
            output::show(shared.output, &json!({ "entries": entries }), |_| text(&entries, &actors))?;
        }
        EntryVerb::Update { id, fields } => {
            let mut changes = fields.into_json()?;
            changes["id"] = id.into();
            change(&mut server, Mode::Update, &changes, shared).await?;
        }
        EntryVerb::Delete { ids } => return delete(&mut server, ids, shared).await,
        EntryVerb::Count => {
            let count = admin::status(&mut server).await?["entries"].clone();
            output::show(shared.output, &json!({ "count": count }), |_| count.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An entry as it is after a change; what the server warns of stands beside it.
#[derive(Serialize)]
struct Changed {
    #[serde(flatten)]
    entry: Entry,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

async fn change(server: &mut Client, mode: Mode, body: &Value, shared: &Shared) -> Result<()> {
    let applied = admin::apply_one(server, mode, "entry", serde_json::to_vec(body)?).await?;
    let entry = serde_json::from_slice(&applied.body).context("the server's entry is of a newer kind")?;
    let changed = Changed { entry, warnings: applied.warnings };
    output::show(shared.output, &changed, |changed| text(std::slice::from_ref(&changed.entry), &[]))?;
    Ok(())
}

/// The entries with these ids, each of which must be there; all of them where none is named.
async fn list(server: &mut Client, ids: Vec<String>) -> Result<Vec<Entry>> {
    let listed = server.list("entry", ids.clone()).await?;
    let entries = listed.iter().map(|listed| serde_json::from_slice::<Entry>(&listed.body));
    let entries: Vec<Entry> =
        entries.collect::<Result<_, _>>().context("the server's entry is of a newer kind")?;
    match ids.iter().find(|id| !entries.iter().any(|entry| entry.id.as_str() == id.as_str())) {
        Some(missing) => bail!("there is no entry {missing:?}; `writ entry show` shows those that are there"),
        None => Ok(entries),
    }
}

async fn delete(server: &mut Client, ids: Vec<String>, shared: &Shared) -> Result<ExitCode> {
    let bodies = ids.iter().map(|id| serde_json::to_vec(id).map(Into::into)).collect::<Result<_, _>>()?;
    let results = server.apply(Mode::Delete, "entry", bodies).await?;
    let (mut gone, mut refused) = (Vec::new(), false);
    for (id, result) in ids.iter().zip(&results) {
        match result.refused() {
            None => gone.push(id),
            Some((_, message)) => {
                refused = true;
                output::remark(&format!("writ: {}", plain(message)));
            }
        }
    }
    let lines = gone.iter().map(|id| format!("deleted {}", plain(id))).collect::<Vec<_>>();
    output::show(shared.output, &json!({ "deleted": gone }), |_| lines.join("\n"))?;
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(entries: &[Entry], actors: &[Actor]) -> String {
    if entries.is_empty() {
        return "there are no entries".to_owned();
    }
    let is_task_only =
        |entry: &Entry| actors.iter().any(|actor| actor.id == entry.spiffe_id && actor.is_task_only());
    entries.iter().map(|entry| block(entry, is_task_only(entry))).collect::<Vec<_>>().join("\n")
}

/// One entry; fields that say nothing are left out.
fn block(entry: &Entry, is_task_only: bool) -> String {
    let mut text = format!("{}\n", entry.spiffe_id);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<12}{}", plain(value));
        }
    };
    let seconds = |ttl: u32| match ttl {
        0 => String::new(),
        ttl => humantime::format_duration(std::time::Duration::from_secs(ttl.into())).to_string(),
    };
    line("entry", entry.id.as_str());
    line("parent", entry.parent_id.as_str());
    entry.selectors.iter().for_each(|selector| line("selector", selector.as_str()));
    line("ttl", &seconds(entry.x509_svid_ttl));
    line("jwt ttl", &seconds(entry.jwt_svid_ttl));
    line("dns", &entry.dns_names.join(", "));
    line("hint", &entry.hint);
    entry.federates_with.iter().for_each(|name| line("federates", name.as_str()));
    line("expires", &entry.expires_at.map(|moment| moment.to_string()).unwrap_or_default());
    let flags = [
        (entry.admin, "admin"),
        (entry.downstream, "downstream"),
        (entry.store_svid, "stored"),
        (is_task_only, "task only"), // an actor's: nobody has the ID without a live task
    ];
    line(
        "flags",
        &flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect::<Vec<_>>().join(", "),
    );
    text
}
