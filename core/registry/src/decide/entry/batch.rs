//! A batch of changes to entries: the registry as it is, and on top of it what the batch did so far.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};
use spiffe::SpiffeId;

use super::{Effect, EntryOutcome, Wanted, rules};
use crate::{
    commit::Change,
    decide::{Decision, Moment, Proposal, Refusal},
    history::Audience,
    index::{likeness, same_place},
    objects::{Entry, EntryId, EntryPatch, Key, Object, Sha256, Versioned, well_known},
    record::Record,
    registry::Registry,
};

pub(super) struct Batch<'a> {
    registry: &'a Registry,
    moment: &'a Moment,
    /// Entries that the batch changed; `None` where it deleted one.
    changed: HashMap<EntryId, Option<Versioned<Entry>>>,
    /// Entries that the batch put, under the hash of their place.
    placed: HashMap<u64, Vec<EntryId>>,
    changes: Vec<Change>,
    outcomes: Vec<EntryOutcome>,
    facts: Vec<Value>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(registry: &'a Registry, moment: &'a Moment) -> Self {
        Self {
            registry,
            moment,
            changed: HashMap::new(),
            placed: HashMap::new(),
            changes: Vec::new(),
            outcomes: Vec::new(),
            facts: Vec::new(),
        }
    }

    pub(super) fn create(&mut self, entry: Entry) {
        let entry = tidy(Entry { created_at: self.moment.now, ..entry });
        if let Some(existing) = self.similar(&entry) {
            return self.refuse(&entry.id, already_exists(&existing), Some(existing));
        }
        if let Some(existing) = self.entry(&entry.id).cloned() {
            return self.refuse(&entry.id, id_taken(&existing), Some(existing));
        }
        match rules::check(&entry, self.registry, self.moment.now) {
            Ok(()) => self.put(entry, 1, Effect::Created),
            Err(refusal) => self.refuse(&entry.id, refusal, None),
        }
    }

    pub(super) fn update(&mut self, id: &EntryId, patch: EntryPatch) {
        let Some(current) = self.entry(id).cloned() else {
            return self.refuse(id, not_found(id), None);
        };
        let entry = tidy(patch.applied_to(&current));
        if entry == *current {
            return self.settle(Effect::Unchanged, current);
        }
        if let Some(existing) = self.similar(&entry).filter(|other| other.id != *id) {
            return self.refuse(id, already_exists(&existing), Some(existing));
        }
        match rules::check(&entry, self.registry, self.moment.now) {
            Ok(()) => self.put(entry, current.version + 1, Effect::Updated),
            Err(refusal) => self.refuse(id, refusal, Some(current)),
        }
    }

    pub(super) fn upsert(&mut self, wanted: Wanted) {
        let entry = tidy(wanted.entry);
        let current = match wanted.names_id {
            true => self.entry(&entry.id).cloned(),
            false => self.similar(&entry),
        };
        match current {
            Some(current) => self.update(&current.id, EntryPatch::whole(entry)),
            None => self.create(entry),
        }
    }

    pub(super) fn delete(&mut self, id: &EntryId) {
        let Some(current) = self.entry(id).cloned() else {
            return self.refuse(id, not_found(id), None);
        };
        self.changed.insert(id.clone(), None);
        self.changes.push(Change::Delete(Key::Entry(id.clone())));
        self.settle(Effect::Deleted, current);
    }

    /// The batch as one decision. Where nothing changed and nothing was refused, nothing is recorded.
    pub(super) fn decided(mut self, kind: &'static str) -> Decision<Vec<EntryOutcome>> {
        self.warn_of_idle_parents();
        if self.facts.is_empty() {
            return Decision { proposal: Proposal::default(), answer: self.outcomes };
        }
        let outcome = match self.changes.is_empty() {
            true => Err("no item of the batch could be done".to_owned()),
            false => Ok(()),
        };
        let record = Record { kind, outcome, facts: json!({ "items": self.facts }) };
        Decision { proposal: Proposal { changes: self.changes, record: Some(record) }, answer: self.outcomes }
    }

    fn entry(&self, id: &EntryId) -> Option<&Versioned<Entry>> {
        match self.changed.get(id) {
            Some(changed) => changed.as_ref(),
            None => self.registry.entry(id),
        }
    }

    fn similar(&self, entry: &Entry) -> Option<Versioned<Entry>> {
        let placed = self.placed.get(&likeness(entry)).into_iter().flatten();
        let of_batch = placed.filter_map(|id| self.entry(id)).find(|other| same_place(other, entry));
        let untouched = |other: &&Versioned<Entry>| !self.changed.contains_key(&other.id);
        of_batch.or_else(|| self.registry.similar(entry).filter(untouched)).cloned()
    }

    fn put(&mut self, entry: Entry, version: u64, effect: Effect) {
        let entry = Versioned { version, value: Arc::new(entry) };
        self.placed.entry(likeness(&entry)).or_default().push(entry.id.clone());
        self.changed.insert(entry.id.clone(), Some(entry.clone()));
        self.changes.push(Change::Put { version, object: Object::Entry(Arc::clone(&entry.value)) });
        self.settle(effect, entry);
    }

    fn settle(&mut self, effect: Effect, entry: Versioned<Entry>) {
        if effect != Effect::Unchanged {
            self.facts.push(fact(effect, &entry));
        }
        let warnings = match effect {
            Effect::Deleted => Vec::new(),
            Effect::Created | Effect::Updated | Effect::Unchanged => {
                rules::warnings(&entry, self.registry.settings())
            }
        };
        self.outcomes.push(EntryOutcome { result: Ok(effect), entry: Some(entry), warnings });
    }

    fn refuse(&mut self, id: &EntryId, refusal: Refusal, existing: Option<Versioned<Entry>>) {
        self.facts.push(json!({ "id": id, "refused": refusal.to_string() }));
        self.outcomes.push(EntryOutcome { result: Err(refusal), entry: existing, warnings: Vec::new() });
    }

    /// An entry that no node can hand out yet is allowed, since nodes may come later, but often it is
    /// a mistake. Asked at the end, when all of the batch is in place, and once for each parent.
    fn warn_of_idle_parents(&mut self) {
        let mut idle: BTreeSet<SpiffeId> = self.outcomes.iter().filter_map(hung_under).cloned().collect();
        idle.retain(|parent| self.registry.nodes_of(parent) == Audience::Nobody);
        let given: BTreeSet<&SpiffeId> =
            self.changed.values().flatten().map(|entry| &entry.spiffe_id).collect();
        if idle.iter().flat_map(|parent| self.registry.ancestry(parent)).any(|id| given.contains(&id)) {
            let mut after = self.registry.clone(); // the batch may bring what the parent lacks
            self.changes.iter().for_each(|change| after.set(change));
            idle.retain(|parent| after.nodes_of(parent) == Audience::Nobody);
        }
        for outcome in &mut self.outcomes {
            if let Some(parent) = hung_under(outcome).filter(|parent| idle.contains(*parent)) {
                let warning = format!("no node answers to the parent {parent} yet; see: writ node list");
                outcome.warnings.push(warning);
            }
        }
    }
}

/// The parent under which an item put an entry that nodes can hand out. A node alias is not handed
/// out: it only stands for nodes.
fn hung_under(outcome: &EntryOutcome) -> Option<&SpiffeId> {
    let (Ok(Effect::Created | Effect::Updated), Some(entry)) = (&outcome.result, &outcome.entry) else {
        return None;
    };
    (entry.parent_id.path() != well_known::SERVER).then_some(&entry.parent_id)
}

/// What the log keeps of an entry is free of token secrets.
fn tidy(mut entry: Entry) -> Entry {
    entry.parent_id = well_known::without_token_secret(&entry.parent_id);
    entry
}

/// What the audit log says of an entry. Selectors can hold what is nobody's business, so the whole
/// entry is only there as a digest.
fn fact(effect: Effect, entry: &Versioned<Entry>) -> Value {
    json!({
        "id": entry.id,
        "effect": effect.as_str(),
        "version": entry.version,
        "spiffe_id": entry.spiffe_id,
        "parent_id": entry.parent_id,
        "admin": entry.admin,
        "downstream": entry.downstream,
        "sha256": Sha256::of(&Object::Entry(Arc::clone(&entry.value)).to_json()),
    })
}

fn already_exists(existing: &Entry) -> Refusal {
    let id = &existing.id;
    Refusal::AlreadyExists(format!(
        "similar entry already exists: {id}; change it with: writ entry update {id}"
    ))
}

fn id_taken(existing: &Entry) -> Refusal {
    let id = &existing.id;
    Refusal::AlreadyExists(format!("entry {id} already exists; change it with: writ entry update {id}"))
}

fn not_found(id: &EntryId) -> Refusal {
    Refusal::NotFound(format!("there is no entry {id}; see: writ entry list"))
}
