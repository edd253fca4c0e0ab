//! The entries that a test file counts on, and which of them a process with some facts matches, by the
//! agent's own code.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use agent::{Facts, Index};
use anyhow::{Context as _, Result, bail, ensure};
use attestors::selectors::{About, Vocabulary};
use registry::objects::{Entry, NodeName, well_known};
use serde_json::{Map, Value, json};
use spiffe::{Selector, SpiffeId, TrustDomain};

use super::{
    file::{Expect, TestFile},
    judge::{Almost, Rule},
};
use crate::cli::declared::{self, Declared, Kind};

/// The entries that count, found by facts.
pub(crate) struct Entries {
    index: Index,
    /// Where each stood; an entry of a server has its id there.
    places: BTreeMap<String, String>,
}

impl Entries {
    /// The entries that a test file names, if it names any.
    pub(crate) fn named_by(file: &TestFile, path: &Path) -> Result<Option<Self>> {
        let Some(names) = &file.entries else { return Ok(None) };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut declared = Vec::new();
        for name in names {
            declared::read(&folder.join(name), &mut declared)?;
        }
        ensure!(!declared.is_empty(), "{}: the files of entries that it names are empty", path.display());
        let mut places = BTreeMap::new();
        let mut entries = Vec::new();
        // A file may hold what is governed, too; a test is about entries.
        let declared = declared.into_iter().filter(|object| object.kind == Kind::Entry);
        for (n, Declared { place, body, .. }) in declared.enumerate() {
            let entry = whole(body, n, &file.trust_domain).with_context(|| place.clone())?;
            places.insert(entry.id.to_string(), place);
            entries.push(entry);
        }
        Ok(Some(Self { index: on_node(file, &file.trust_domain, entries)?, places }))
    }

    /// The entries of a server.
    pub(crate) fn of_server(file: &TestFile, trust_domain: &TrustDomain, bodies: &[Value]) -> Result<Self> {
        let entries: Vec<Entry> = bodies
            .iter()
            .map(|body| {
                serde_json::from_value(body.clone()).context("the server has entries of a newer kind")
            })
            .collect::<Result<_>>()?;
        Ok(Self { index: on_node(file, trust_domain, entries)?, places: BTreeMap::new() })
    }

    /// What a process with these facts gets, and what the entries for what is expected lack.
    pub(crate) fn of(&self, facts: &Facts, expect: &Expect) -> (Vec<Rule>, Vec<Almost>) {
        let matches = self.index.matches(facts).iter().map(|entry| self.rule(entry)).collect();
        let ids = expect.ids.as_deref().unwrap_or_default();
        let meant = self.index.iter().filter(|entry| ids.iter().any(|id| id.is(&entry.spiffe_id)));
        let almost = meant.filter(|entry| !facts.have_all(&entry.selectors)).map(|entry| {
            let missing = entry.selectors.iter().filter(|selector| !facts.has(selector)).cloned();
            Almost { missing: missing.collect(), entry: self.rule(entry) }
        });
        (matches, almost.collect())
    }

    fn rule(&self, entry: &Entry) -> Rule {
        let id = entry.id.to_string();
        let id = self.places.get(&id).map_or(id, |place| format!("({place})"));
        Rule { id, spiffe_id: entry.spiffe_id.clone(), selectors: entry.selectors.clone() }
    }
}

/// An entry of a file, as the server would read it; what only a server decides is left open.
fn whole(body: Value, n: usize, trust_domain: &TrustDomain) -> Result<Entry> {
    let Value::Object(mut fields) = body else { bail!("an entry is an object") };
    let parent = fields.remove("parent").context("it names no parent_id")?;
    let parent = parent_id(&parent, trust_domain)?;
    if let Some(Value::String(id)) = fields.get("spiffe_id").filter(|id| is_path(id)) {
        let id = trust_domain.join(id)?;
        fields.insert("spiffe_id".to_owned(), json!(id));
    }
    for ttl in ["x509_svid_ttl", "jwt_svid_ttl"] {
        if fields.get(ttl).is_some_and(Value::is_string) {
            fields.remove(ttl); // a duration; it decides nothing here
        }
    }
    set_default(&mut fields, "id", json!(format!("entry-{}", n + 1)));
    set_default(&mut fields, "created_at", json!(spiffe::Timestamp::default()));
    fields.insert("parent_id".to_owned(), json!(parent));
    let entry: Entry = serde_json::from_value(Value::Object(fields))?;
    for selector in &entry.selectors {
        Vocabulary::default().check(selector, About::Processes)?;
    }
    Ok(entry)
}

fn set_default(fields: &mut Map<String, Value>, name: &str, value: Value) {
    fields.entry(name).or_insert(value);
}

fn is_path(id: &Value) -> bool {
    id.as_str().is_some_and(|id| id.starts_with('/'))
}

/// Those of which a process on the file's node can be; all where it names none.
fn on_node(file: &TestFile, trust_domain: &TrustDomain, entries: Vec<Entry>) -> Result<Index> {
    let any = well_known::any_node(trust_domain);
    let node = file.node.as_ref().map(|node| parent_id(node, trust_domain)).transpose().context("node")?;
    // Entries for nodes are of no process.
    let server = well_known::server(trust_domain);
    let is_there = |entry: &Entry| match &node {
        Some(node) => entry.parent_id == *node || entry.parent_id == any,
        None => entry.parent_id != server,
    };
    Ok(entries.into_iter().filter(is_there).map(Arc::new).collect())
}

/// A parent as people name it: a node's name, an ID, a path, `any-node`, or selectors of nodes.
fn parent_id(parent: &Value, trust_domain: &TrustDomain) -> Result<SpiffeId> {
    match parent {
        Value::String(name) if name == "any-node" => Ok(well_known::any_node(trust_domain)),
        Value::String(path) if path.starts_with('/') => Ok(trust_domain.join(path)?),
        Value::String(id) if id.starts_with("spiffe://") => Ok(id.parse()?),
        Value::String(name) if !name.contains(':') => {
            let name: NodeName = name.parse()?;
            Ok(well_known::joined_node(trust_domain, &name))
        }
        Value::String(_) => parent_id(&json!([parent]), trust_domain),
        _ => {
            let selectors: BTreeSet<Selector> = serde_json::from_value(parent.clone())
                .context("a parent is a node's name, a SPIFFE ID or a list of selectors")?;
            Ok(well_known::node_alias(trust_domain, &selectors))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(node: Option<&str>, bodies: &[Value]) -> Entries {
        let tests = "tests: [{name: a, facts: {selectors: [unix:uid:1]}, expect: {ids: []}}]";
        let mut file: TestFile = serde_norway::from_str(tests).unwrap();
        file.node = node.map(|name| json!(name));
        let whole = |(n, body): (usize, &Value)| whole(body.clone(), n, &file.trust_domain).unwrap();
        let entries = bodies.iter().enumerate().map(whole).collect();
        Entries { index: on_node(&file, &file.trust_domain, entries).unwrap(), places: BTreeMap::new() }
    }

    fn given(entries: &Entries, facts: &[&str]) -> Vec<String> {
        let facts: Facts = facts.iter().map(|fact| fact.parse().unwrap()).collect();
        let (matches, _) = entries.of(&facts, &Expect::default());
        matches.iter().map(|rule| rule.spiffe_id.path().to_owned()).collect()
    }

    #[test]
    fn an_entry_of_a_file_is_read_as_a_server_reads_it() {
        let td: TrustDomain = "td".parse().unwrap();
        let body = json!({ "spiffe_id": "/a", "parent": "local", "selectors": ["unix:uid:1"], "x509_svid_ttl": "15m" });
        let entry = whole(body, 0, &td).unwrap();
        assert_eq!(entry.spiffe_id.to_string(), "spiffe://td/a");
        assert_eq!(entry.parent_id.to_string(), "spiffe://td/spire/agent/join_token/local");
        let wrong = json!({ "spiffe_id": "/a", "parent": "local", "selector": ["unix:uid:1"] });
        assert!(whole(wrong, 0, &td).unwrap_err().to_string().contains("selector"));
        let wrong = json!({ "spiffe_id": "/a", "parent": "local", "selectors": ["unix:uid:-1"] });
        assert!(whole(wrong, 0, &td).unwrap_err().to_string().contains("a uid is a number"));
    }

    #[test]
    fn an_entry_of_another_node_does_not_count() {
        let one = |id: &str, parent: &str| json!({ "spiffe_id": id, "parent": parent, "selectors": ["unix:uid:1"] });
        let all = [one("/here", "web-1"), one("/there", "web-2"), one("/anywhere", "any-node")];
        let mut on_web = given(&entries(Some("web-1"), &all), &["unix:uid:1", "unix:gid:1"]);
        on_web.sort();
        assert_eq!(on_web, ["/anywhere", "/here"]);
        assert_eq!(given(&entries(None, &all), &["unix:uid:1"]).len(), 3);
        assert_eq!(given(&entries(None, &all), &["unix:uid:2"]).len(), 0);
    }
}
