//! `writ apply` and `writ diff`: entries from files.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use server_api::admin::{Applied, Client, Effect, Mode};

use super::{
    Shared, admin,
    declared::{self, Declared},
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
or it is what `writ entry list --output json` prints.";

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
    spiffe_id: String,
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
        let mut text = format!("{effect}  {}\n", plain(&outcome.spiffe_id));
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
    let mut outcomes = Vec::with_capacity(declared.len());
    for batch in declared.chunks(BATCH) {
        let bodies = batch.iter().map(|object| serde_json::to_vec(&object.body).map(Into::into));
        let applied = server.apply(mode, "entry", bodies.collect::<Result<_, _>>()?).await?;
        let current = match mode {
            Mode::DryRun => current(&mut server, &applied).await?,
            _ => Vec::new(),
        };
        for (object, applied) in batch.iter().zip(applied) {
            admin::warn(&applied.warnings);
            outcomes.push(outcome(mode, object, &applied, &current));
        }
    }
    Ok(outcomes)
}

/// Two documents about one entry would undo each other each time they are applied.
fn differ(declared: &[Declared]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for Declared { place, body } in declared {
        let mut selectors: Vec<_> =
            body["selectors"].as_array().into_iter().flatten().map(Value::to_string).collect();
        selectors.sort();
        let parent = body.get("parent").or_else(|| body.get("parent_id"));
        let about = match body.get("id") {
            Some(id) => id.to_string(),
            None => format!("{} {parent:?} {selectors:?}", body["spiffe_id"]),
        };
        if let Some(other) = seen.insert(about, place) {
            bail!("{other} and {place} are about the same entry; keep one of them");
        }
    }
    Ok(())
}

/// The objects that a dry run would change, as they are now.
async fn current(server: &mut Client, applied: &[Applied]) -> Result<Vec<Value>> {
    let updated = applied.iter().filter(|applied| applied.effect == Effect::Updated);
    let ids: Vec<String> =
        updated.filter_map(|applied| Some(body(applied)["id"].as_str()?.to_owned())).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let listed = server.list("entry", ids).await?;
    Ok(listed.iter().filter_map(|listed| serde_json::from_slice(&listed.body).ok()).collect())
}

fn outcome(mode: Mode, object: &Declared, applied: &Applied, current: &[Value]) -> Outcome {
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
        Effect::Updated => {
            let before = current.iter().find(|entry| entry["id"] == after["id"]);
            before.map(|before| changes(before, &after)).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let spiffe_id = after["spiffe_id"].as_str().or(object.body["spiffe_id"].as_str());
    let spiffe_id = spiffe_id.unwrap_or_default().to_owned();
    let warnings = applied.warnings.clone();
    Outcome { place: object.place.clone(), effect, spiffe_id, changes, warnings, error }
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
    use serde_json::json;

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
