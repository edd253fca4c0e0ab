//! `writ apply` and `writ diff`: objects from files.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use server_api::admin::{Applied, Client, Effect, Mode};

use super::{
    Shared, admin,
    declared::{self, Declared, Kind},
    output::{self, plain},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ apply -f entries.yaml -f more/      files, or directories of .yaml, .yml and .json
  writ diff -f entries.yaml                exit 1 where the server differs
  writ entry list --output json | writ apply -f -

A file holds one document for each object, with the fields of `writ entry show --output json`:
  kind: Entry
  spiffe_id: /web
  parent_id: local
  selectors: [unix:uid:1000]
  x509_svid_ttl: 15m
kind is Tenant, Actor, Mandate, Resource, Policy or Entry. Or it holds lists, as the `list` commands print them with
--output json: tenants:, actors:, mandates:, resources:, policies:, entries:. A mandate is a draft until it is approved.";

const BATCH: usize = 500;

#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// A file, a directory, or - for standard input; repeat it.
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What became, or would become, of an object.
#[derive(Serialize)]
struct Outcome {
    place: String,
    effect: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<String>,
    /// Of what is no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Change>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Change {
    field: String,
    from: Value,
    to: Value,
}

/// Makes the server agree with the files.
pub(crate) async fn apply(files: Files, shared: &Shared) -> Result<ExitCode> {
    let outcomes = outcomes(files, Mode::Upsert, shared).await?;
    for outcome in &outcomes {
        print(outcome, outcome.effect, shared)?;
    }
    Ok(if outcomes.iter().any(|outcome| outcome.error.is_some()) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Says where the server differs from the files.
pub(crate) async fn diff(files: Files, shared: &Shared) -> Result<ExitCode> {
    let outcomes = outcomes(files, Mode::DryRun, shared).await?;
    let drift: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.effect != "unchanged").collect();
    for outcome in &drift {
        let would = match outcome.effect {
            "created" => "would be created",
            "updated" => "would be updated",
            other => other,
        };
        print(outcome, would, shared)?;
    }
    Ok(if drift.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(outcome: &Outcome, effect: &str, shared: &Shared) -> Result<()> {
    output::show(shared.output, outcome, |outcome| {
        if let Some(error) = &outcome.error {
            output::remark(&format!("writ: {}: {}", plain(&outcome.place), plain(error)));
            return String::new();
        }
        let about = match &outcome.name {
            Some(name) => format!("{} {name}", outcome.kind),
            None => outcome.spiffe_id.clone().unwrap_or_default(),
        };
        let mut text = format!("{effect}  {}\n", plain(&about));
        for Change { field, from, to } in &outcome.changes {
            let line = if from.is_null() { to.to_string() } else { format!("{from} -> {to}") };
            text.push_str(&format!("  {}: {}\n", plain(field), plain(&line)));
        }
        text
    })?;
    Ok(())
}

async fn outcomes(files: Files, mode: Mode, shared: &Shared) -> Result<Vec<Outcome>> {
    let mut server = admin::connect(shared).await?;
    let mut declared = Vec::new();
    for file in &files.files {
        declared::read(file, &mut declared)?;
    }
    ensure!(
        !declared.is_empty(),
        "there is nothing to apply in the files; an entry starts with `kind: Entry`"
    );
    differ(&declared)?;
    declared.sort_by_key(|object| object.kind);
    let mut outcomes = Vec::with_capacity(declared.len());
    let (governed, entries) =
        declared.split_at(declared.partition_point(|object| object.kind != Kind::Entry));
    for batch in governed.chunks(BATCH).chain(entries.chunks(BATCH)) {
        let applied = applied(&mut server, mode, batch).await?;
        let current = match mode {
            Mode::DryRun => current(&mut server, batch, &applied).await?,
            _ => vec![Value::Null; batch.len()],
        };
        for ((object, applied), current) in batch.iter().zip(applied).zip(&current) {
            admin::warn(&applied.warnings);
            outcomes.push(outcome(mode, object, &applied, current));
        }
    }
    Ok(outcomes)
}

/// What is governed goes in one call whatever its kind, so that a dry run sees what comes before.
async fn applied(server: &mut Client, mode: Mode, batch: &[Declared]) -> Result<Vec<Applied>> {
    let is_entries = batch.iter().all(|object| object.kind == Kind::Entry);
    let body = |object: &Declared| match is_entries {
        true => serde_json::to_vec(&object.body),
        false => serde_json::to_vec(&json!({ "kind": object.kind.word(), "body": object.body })),
    };
    let bodies = batch.iter().map(|object| body(object).map(Into::into)).collect::<Result<_, _>>()?;
    Ok(server.apply(mode, if is_entries { "entry" } else { "" }, bodies).await?)
}

/// Two documents about one object would undo each other each time they are applied.
fn differ(declared: &[Declared]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for Declared { place, kind, body } in declared {
        let mut selectors: Vec<_> =
            body["selectors"].as_array().into_iter().flatten().map(Value::to_string).collect();
        selectors.sort();
        let parent = body.get("parent").or_else(|| body.get("parent_id"));
        let about = match body.get("id").or(body.get("name")) {
            Some(id) => format!("{} {id}", kind.word()),
            None => format!("{} {parent:?} {selectors:?}", body["spiffe_id"]),
        };
        if let Some(other) = seen.insert(about, place) {
            bail!("{other} and {place} are about the same {}; keep one of them", kind.word());
        }
    }
    Ok(())
}

/// The objects that a dry run would change, as they are now; nothing where it would not.
async fn current(server: &mut Client, batch: &[Declared], applied: &[Applied]) -> Result<Vec<Value>> {
    let mut wanted: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for (object, applied) in
        batch.iter().zip(applied).filter(|(_, applied)| applied.effect == Effect::Updated)
    {
        wanted.entry(object.kind).or_default().extend(name(&body(applied)));
    }
    let mut found = BTreeMap::new();
    for (kind, names) in wanted {
        for listed in server.list(kind.word(), names).await? {
            let value: Value = serde_json::from_slice(&listed.body).unwrap_or_default();
            found.insert((kind, name(&value)), value);
        }
    }
    let known = |(object, applied): (&Declared, &Applied)| {
        found.get(&(object.kind, name(&body(applied)))).cloned().unwrap_or_default()
    };
    Ok(batch.iter().zip(applied).map(known).collect())
}

/// What an object is called.
fn name(body: &Value) -> Option<String> {
    body.get("id").or(body.get("name")).and_then(Value::as_str).map(str::to_owned)
}

fn outcome(mode: Mode, object: &Declared, applied: &Applied, current: &Value) -> Outcome {
    let after = body(applied);
    let error = applied.refused().map(|(_, message)| message.to_owned());
    let effect = match applied.effect {
        _ if error.is_some() => "refused",
        Effect::Created => "created",
        Effect::Updated => "updated",
        Effect::Deleted => "deleted",
        Effect::Unchanged | Effect::None => "unchanged",
    };
    let changes = match applied.effect {
        // What the server makes of it is not known yet; what the file says is.
        Effect::Created if mode == Mode::DryRun => changes(&Value::Null, &object.body),
        Effect::Updated if !current.is_null() => changes(current, &after),
        _ => Vec::new(),
    };
    let (spiffe_id, name) = match object.kind {
        Kind::Entry => {
            let id = after["spiffe_id"].as_str().or(object.body["spiffe_id"].as_str());
            (Some(id.unwrap_or_default().to_owned()), None)
        }
        _ => (None, name(&after).or(name(&object.body))),
    };
    let (warnings, kind) = (applied.warnings.clone(), object.kind.word());
    Outcome { place: object.place.clone(), effect, kind, spiffe_id, name, changes, warnings, error }
}

fn body(applied: &Applied) -> Value {
    serde_json::from_slice(&applied.body).unwrap_or_default()
}

fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let empty = serde_json::Map::new();
    let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    let fields: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = fields.into_iter().filter(|field| old.get(*field) != new.get(*field));
    differs
        .map(|field| {
            let value =
                |fields: &serde_json::Map<String, Value>| fields.get(field).cloned().unwrap_or_default();
            Change { field: field.clone(), from: value(old), to: value(new) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_documents_about_one_entry_are_refused_with_both_places() {
        let mut read = Vec::new();
        let one = "kind: Entry\nspiffe_id: /a\nparent_id: local\nselectors: [\"x:a\", \"x:b\"]\n";
        let same =
            "---\nkind: Entry\nspiffe_id: /a\nparent_id: local\nselectors: [\"x:b\", \"x:a\"]\nhint: h\n";
        declared::parse(&format!("{one}{same}"), "a.yaml", &mut read).unwrap();
        let error = differ(&read).unwrap_err().to_string();
        assert!(error.contains("document 1") && error.contains("document 2"), "{error}");
        assert!(differ(&read[..1]).is_ok());
    }

    #[test]
    fn drift_is_told_field_by_field() {
        let changed = changes(&json!({"id": "e", "hint": "a"}), &json!({"id": "e", "x509_svid_ttl": 5}));
        let fields: Vec<_> = changed.iter().map(|change| change.field.as_str()).collect();
        assert_eq!(fields, ["hint", "x509_svid_ttl"]);
    }
}
