//! A registry with its log beside it, as a server holds them.

use std::time::Duration;

use registry::{
    Author, Command, Commit, LogId, Moment, Registry, Settings,
    decide::{
        entry::{CreateEntries, EntryOutcome},
        node::NodeSeen,
        token::{AttestNode, CreateToken},
    },
    objects::{Entry, EntryId, Sha256, well_known},
};
use serde_json::{Value, json};
use spiffe::{SpiffeId, Timestamp};

pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) log: Vec<Commit>,
    pub(crate) now: Timestamp,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Settings::new("acme.example".parse().unwrap()))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let registry = Registry::new(settings, LogId("log".to_owned()));
        Self { registry, log: Vec::new(), now: Timestamp::from_unix_seconds(1_800_000_000) }
    }

    /// Decides, commits and applies, as the server's writer does.
    pub(crate) fn run<C: Command>(&mut self, command: C) -> C::Answer {
        let moment = Moment { now: self.now, author: Author::Local { uid: 0, pid: 1 } };
        let decision = command.decide(&self.registry, &moment);
        if let Some(commit) = decision.proposal.into_commit(&self.registry, &moment) {
            self.registry.apply(&commit).unwrap();
            self.log.push(commit);
        }
        decision.answer
    }

    /// What the audit log said last.
    pub(crate) fn last_record(&self) -> Value {
        serde_json::from_slice(&self.log.last().unwrap().leaf).unwrap()
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    pub(crate) fn create(&mut self, entry: Entry) -> EntryOutcome {
        self.run(CreateEntries { entries: vec![entry] }).remove(0)
    }

    /// A node in good standing.
    pub(crate) fn join(&mut self, name: &str) -> SpiffeId {
        self.join_with(name, &[])
    }

    pub(crate) fn join_with(&mut self, name: &str, selectors: &[&str]) -> SpiffeId {
        self.run(CreateToken {
            node: name.parse().unwrap(),
            secret_sha256: Sha256::of(b"secret"),
            ttl: Duration::from_secs(600),
        })
        .unwrap();
        let serial = format!("{:02x}", self.log.len());
        let attest = AttestNode {
            selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
            ..attest(name, "secret", "key", &serial, self.now)
        };
        let id = self.run(attest).unwrap().id;
        self.run(NodeSeen { id: id.clone(), serial }).unwrap();
        id
    }

    /// The names of the entries in a node's view, sorted.
    pub(crate) fn entries_of(&self, node: &SpiffeId) -> Vec<String> {
        let objects = self.registry.view(node).expect("the node has a view").objects;
        let mut names: Vec<String> = objects
            .iter()
            .filter_map(|stored| match &stored.object {
                registry::Object::Entry(entry) => Some(entry.id.to_string()),
                _ => None,
            })
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn attest(name: &str, secret: &str, key: &str, serial: &str, now: Timestamp) -> AttestNode {
    AttestNode {
        node: name.parse().unwrap(),
        secret_sha256: Sha256::of(secret.as_bytes()),
        key_sha256: Sha256::of(key.as_bytes()),
        selectors: Default::default(),
        serial: serial.to_owned(),
        not_after: now + Duration::from_secs(3600),
    }
}

pub(crate) fn id(path: &str) -> SpiffeId {
    format!("spiffe://acme.example{path}").parse().unwrap()
}

pub(crate) fn entry_id(name: &str) -> EntryId {
    name.parse().unwrap()
}

pub(crate) fn any_node() -> SpiffeId {
    well_known::any_node(&"acme.example".parse().unwrap())
}

/// The entry `name` that gives `path` under `parent` to processes of a uid.
pub(crate) fn entry(name: &str, path: &str, parent: &SpiffeId) -> Entry {
    entry_with(name, path, parent, json!({}))
}

/// The same, with other fields.
pub(crate) fn entry_with(name: &str, path: &str, parent: &SpiffeId, fields: Value) -> Entry {
    let mut entry = json!({
        "id": name,
        "spiffe_id": id(path),
        "parent_id": parent,
        "selectors": ["unix:uid:1000"],
        "created_at": "2026-01-01T00:00:00Z",
    });
    for (name, value) in fields.as_object().unwrap() {
        entry[name] = value.clone();
    }
    serde_json::from_value(entry).unwrap()
}
