//! Objects that files declare, as `writ apply` reads them.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize as _;
use serde_json::Value;

/// Larger files are no declarations.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// One object of a file, and where it stood.
pub(crate) struct Declared {
    pub(crate) place: String,
    pub(crate) body: Value,
}

/// Reads every object of a file, of a directory's files, or of standard input.
pub(crate) fn read(path: &Path, declared: &mut Vec<Declared>) -> Result<()> {
    if path.is_dir() {
        let list = || fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        let mut files = list().with_context(|| format!("cannot list {}", path.display()))?;
        files.retain(|file| {
            file.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json")
        });
        files.sort();
        return files.iter().try_for_each(|file| read(file, declared));
    }
    let mut text = String::new();
    let from: Box<dyn io::Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
    };
    from.take(LARGEST_FILE + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        text.len() as u64 <= LARGEST_FILE,
        "{} is larger than {LARGEST_FILE} bytes; split it",
        path.display()
    );
    parse(&text, &path.display().to_string(), declared)
}

pub(crate) fn parse(text: &str, file: &str, declared: &mut Vec<Declared>) -> Result<()> {
    for (n, document) in serde_norway::Deserializer::from_str(text).enumerate() {
        let place = format!("{file}, document {}", n + 1);
        let value = Value::deserialize(document).with_context(|| place.clone())?;
        if value.is_null() {
            continue; // nothing between two separators
        }
        match listed(value) {
            Ok(entries) => declared.extend(entries.into_iter().enumerate().map(|(n, entry)| {
                let place = format!("{place}, entry {}", n + 1);
                Declared { place, body: short(entry) }
            })),
            Err(value) => {
                let body = entry(value).with_context(|| place.clone())?;
                declared.push(Declared { place, body });
            }
        }
    }
    Ok(())
}

/// The entries of a document that is what `writ entry list --output json` prints; else the document.
fn listed(document: Value) -> Result<Vec<Value>, Value> {
    match document {
        Value::Object(mut fields)
            if fields.len() == 1 && fields.get("entries").is_some_and(Value::is_array) =>
        {
            match fields.remove("entries") {
                Some(Value::Array(entries)) => Ok(entries),
                _ => Ok(Vec::new()),
            }
        }
        other => Err(other),
    }
}

/// Its parent may have a short name, which the server knows as `parent`.
fn short(mut entry: Value) -> Value {
    if let Some(fields) = entry.as_object_mut()
        && let Some(parent) = fields.remove("parent_id")
    {
        fields.insert("parent".to_owned(), parent);
    }
    entry
}

/// The entry in a document.
fn entry(mut document: Value) -> Result<Value> {
    let Some(fields) = document.as_object_mut() else { bail!("an object starts with `kind: Entry`") };
    match fields.remove("kind") {
        Some(Value::String(kind)) if kind == "Entry" => {}
        Some(other) => bail!("kind {other} is unknown; this version knows Entry"),
        None => bail!("it has no kind; an entry starts with `kind: Entry`"),
    }
    Ok(short(document))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared(text: &str) -> Result<Vec<Value>> {
        let mut declared = Vec::new();
        parse(text, "a.yaml", &mut declared)?;
        Ok(declared.into_iter().map(|object| object.body).collect())
    }

    #[test]
    fn a_file_holds_many_documents_with_short_names() {
        let text = "---\nkind: Entry\nspiffe_id: /a\nparent_id: local\nselectors: [\"unix:uid:1\"]\n---\n\
                    kind: Entry\nspiffe_id: spiffe://td/b\nparent_id: [\"x:a\", \"x:b\"]\nselectors: []\n";
        let expected = [
            json!({ "spiffe_id": "/a", "parent": "local", "selectors": ["unix:uid:1"] }),
            json!({ "spiffe_id": "spiffe://td/b", "parent": ["x:a", "x:b"], "selectors": [] }),
        ];
        assert_eq!(declared(text).unwrap(), expected);
    }

    #[test]
    fn what_a_list_of_entries_prints_is_read_again() {
        let text =
            r#"{"entries":[{"id":"a","spiffe_id":"spiffe://td/a","parent_id":"spiffe://td/n"},{"id":"b"}]}"#;
        let expected = [
            json!({ "id": "a", "spiffe_id": "spiffe://td/a", "parent": "spiffe://td/n" }),
            json!({ "id": "b" }),
        ];
        assert_eq!(declared(text).unwrap(), expected);
    }

    #[test]
    fn another_kind_is_refused_with_its_place() {
        let error = format!("{:#}", declared("kind: Entry\nparent_id: local\n---\nkind: Pod\n").unwrap_err());
        assert!(error.contains("a.yaml, document 2") && error.contains("Pod"), "{error}");
        assert!(declared("- a\n").is_err());
        assert!(declared("{").is_err());
    }
}
