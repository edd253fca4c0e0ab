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

/// What is declared. In this order: what others need comes first, and nobody has an actor's plain ID for a moment.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Tenant,
    Actor,
    Mandate,
    Resource,
    Policy,
    Entry,
}

/// Each kind as files call it, alone and in a list, and as the server does.
const KINDS: [(&str, &str, &str, Kind); 6] = [
    ("Tenant", "tenants", "tenant", Kind::Tenant),
    ("Actor", "actors", "actor", Kind::Actor),
    ("Mandate", "mandates", "mandate", Kind::Mandate),
    ("Resource", "resources", "resource", Kind::Resource),
    ("Policy", "policies", "policy", Kind::Policy),
    ("Entry", "entries", "entry", Kind::Entry),
];

impl Kind {
    fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|(kind, ..)| *kind == name).map(|(.., kind)| *kind)
    }

    fn plural(name: &str) -> Option<Self> {
        KINDS.iter().find(|(_, plural, ..)| *plural == name).map(|(.., kind)| *kind)
    }

    /// What the server calls it.
    pub(crate) fn word(self) -> &'static str {
        KINDS.iter().find(|(.., kind)| *kind == self).map_or("entry", |(_, _, word, _)| word)
    }
}

/// One object of a file, and where it stood.
pub(crate) struct Declared {
    pub(crate) place: String,
    pub(crate) kind: Kind,
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
            Ok(lists) => declared.extend(lists.into_iter().flat_map(|(kind, objects)| {
                let place = place.clone();
                objects.into_iter().enumerate().map(move |(n, body)| {
                    let place = format!("{place}, {} {}", kind.word(), n + 1);
                    Declared { place, kind, body: short(kind, body) }
                })
            })),
            Err(value) => {
                let (kind, body) = object(value).with_context(|| place.clone())?;
                declared.push(Declared { place, kind, body });
            }
        }
    }
    Ok(())
}

/// The objects of a document that is what the `list` commands print: lists under the names of kinds; else the
/// document.
fn listed(document: Value) -> Result<Vec<(Kind, Vec<Value>)>, Value> {
    let is_lists = |fields: &serde_json::Map<String, Value>| {
        !fields.is_empty()
            && fields.iter().all(|(name, value)| Kind::plural(name).is_some() && value.is_array())
    };
    match document {
        Value::Object(fields) if is_lists(&fields) => Ok(fields
            .into_iter()
            .filter_map(|(name, value)| match value {
                Value::Array(objects) => Some((Kind::plural(&name)?, objects)),
                _ => None,
            })
            .collect()),
        other => Err(other),
    }
}

/// An entry's parent may have a short name, which the server knows as `parent`.
fn short(kind: Kind, mut entry: Value) -> Value {
    if kind == Kind::Entry
        && let Some(fields) = entry.as_object_mut()
        && let Some(parent) = fields.remove("parent_id")
    {
        fields.insert("parent".to_owned(), parent);
    }
    entry
}

/// The object in a document.
fn object(mut document: Value) -> Result<(Kind, Value)> {
    let Some(fields) = document.as_object_mut() else { bail!("an object starts with `kind: Entry`") };
    let known = KINDS.map(|(kind, ..)| kind).join(", ");
    let kind = match fields.remove("kind") {
        Some(Value::String(kind)) => Kind::named(&kind)
            .with_context(|| format!("kind {kind:?} is unknown; this version knows {known}"))?,
        Some(other) => bail!("kind {other} is unknown; this version knows {known}"),
        None => bail!("it has no kind; an entry starts with `kind: Entry`"),
    };
    Ok((kind, short(kind, document)))
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
    fn a_file_may_hold_lists_of_several_kinds() {
        let text = "tenants:\n- name: acme\nactors:\n- id: /a\nentries:\n- spiffe_id: /a\n  parent_id: local\n---\n\
                    kind: Mandate\nname: m\n";
        let mut declared = Vec::new();
        parse(text, "a.yaml", &mut declared).unwrap();
        declared.sort_by_key(|object| object.kind);
        let kinds: Vec<_> = declared.iter().map(|object| object.kind.word()).collect();
        assert_eq!(kinds, ["tenant", "actor", "mandate", "entry"]);
        assert_eq!(declared[3].body["parent"], "local");
        assert_eq!(declared[0].place, "a.yaml, document 1, tenant 1");
        assert!(parse("tenants: []\nPods: []\n", "a.yaml", &mut declared).is_err());
    }

    #[test]
    fn another_kind_is_refused_with_its_place() {
        let error = format!("{:#}", declared("kind: Entry\nparent_id: local\n---\nkind: Pod\n").unwrap_err());
        assert!(error.contains("a.yaml, document 2") && error.contains("Pod"), "{error}");
        assert!(declared("- a\n").is_err());
        assert!(declared("{").is_err());
    }
}
