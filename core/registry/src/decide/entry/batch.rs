//! A batch of changes to entries, tried out on a clone of the registry.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use spiffe::SpiffeId;

use super::{Effect, EntryOutcome, Wanted, rules};
use crate::{
    commit::Change,
    decide::{Decision, Moment, Proposal, Refusal},
    history::Audience,
    objects::{Entry, EntryId, EntryPatch, Key, Sha256, Versioned, well_known},
    record::Record,
    registry::Registry,
};

pub(super) struct Batch<'a> {
    moment: &'a Moment,
    /// The registry with the items so far; a clone costs nothing.
    tried: Registry,
    changes: Vec<Change>,
    outcomes: Vec<EntryOutcome>,
    facts: Vec<Value>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(registry: &Registry, moment: &'a Moment) -> Self {
        let tried = registry.clone();
        Self { moment, tried, changes: Vec::new(), outcomes: Vec::new(), facts: Vec::new() }
    }

    pub(super) fn create(&mut self, entry: Entry) {
        let entry = tidy(Entry { created_at: self.moment.now, ..entry });
        if let Some(existing) = self.tried.similar(&entry).cloned() {
            return self.refuse(&entry.id, already_exists(&existing), Some(existing));
        }
        if let Some(existing) = self.tried.entry(&entry.id).cloned() {
            return self.refuse(&entry.id, id_taken(&existing), Some(existing));
        }
        match rules::check(&entry, &self.tried, self.moment.now) {
            Ok(()) => self.put(entry, Effect::Created),
            Err(refusal) => self.refuse(&entry.id, refusal, None),
        }
    }

    pub(super) fn update(&mut self, id: &EntryId, patch: EntryPatch) {
        let Some(current) = self.tried.entry(id).cloned() else {
            return self.refuse(id, not_found(id), None);
        };
        let entry = tidy(patch.applied_to(&current));
        if entry == *current {
            return self.settle(Effect::Unchanged, current);
        }
        if let Some(existing) = self.tried.similar(&entry).filter(|other| other.id != *id).cloned() {
            return self.refuse(id, already_exists(&existing), Some(existing));
        }
        match rules::check(&entry, &self.tried, self.moment.now) {
            Ok(()) => self.put(entry, Effect::Updated),
            Err(refusal) => self.refuse(id, refusal, Some(current)),
        }
    }

    pub(super) fn upsert(&mut self, wanted: Wanted) {
        let entry = tidy(wanted.entry);
        let current = match wanted.names_id {
            true => self.tried.entry(&entry.id),
            false => self.tried.similar(&entry),
        };
        match current.map(|current| current.id.clone()) {
            Some(id) => self.update(&id, EntryPatch::whole(entry)),
            None => self.create(entry),
        }
    }

    pub(super) fn delete(&mut self, id: &EntryId) {
        let Some(current) = self.tried.entry(id).cloned() else {
            return self.refuse(id, not_found(id), None);
        };
        let key = Key::Entry(id.clone());
        self.tried.delete(&key);
        self.changes.push(Change::Delete(key));
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

    fn put(&mut self, entry: Entry, effect: Effect) {
        let change = self.tried.put_change(entry);
        let Change::Put { version, object } = &change else { return };
        self.tried.put(object, *version);
        let key = change.key();
        self.changes.push(change);
        if let Key::Entry(id) = key
            && let Some(entry) = self.tried.entry(&id).cloned()
        {
            self.settle(effect, entry);
        }
    }

    fn settle(&mut self, effect: Effect, entry: Versioned<Entry>) {
        if effect != Effect::Unchanged {
            self.facts.push(fact(effect, &entry));
        }
        let warnings = match effect {
            Effect::Deleted => Vec::new(),
            Effect::Created | Effect::Updated | Effect::Unchanged => {
                rules::warnings(&entry, self.tried.settings())
            }
        };
        self.outcomes.push(EntryOutcome { result: Ok(effect), entry: Some(entry), warnings });
    }

    fn refuse(&mut self, id: &EntryId, refusal: Refusal, existing: Option<Versioned<Entry>>) {
        self.facts.push(json!({ "id": id, "refused": refusal.to_string() }));
        self.outcomes.push(EntryOutcome { result: Err(refusal), entry: existing, warnings: Vec::new() });
    }

    /// An entry that no node can hand out yet is allowed, since nodes may come later, but often it is
    /// a mistake. Asked once for each parent and at the end, when all of the batch is in place.
    fn warn_of_idle_parents(&mut self) {
        let mut idle: BTreeMap<SpiffeId, bool> = BTreeMap::new();
        for outcome in &mut self.outcomes {
            let (Ok(Effect::Created | Effect::Updated), Some(entry)) = (&outcome.result, &outcome.entry)
            else {
                continue;
            };
            if entry.parent_id == self.tried.well_known.server {
                continue; // an alias is not handed out at all
            }
            let parent = &entry.parent_id;
            let is_idle = *idle
                .entry(parent.clone())
                .or_insert_with(|| self.tried.nodes_of(parent) == Audience::Nobody);
            if is_idle {
                outcome
                    .warnings
                    .push(format!("no node answers to the parent {parent} yet; see: writ node list"));
            }
        }
    }
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
        "sha256": Sha256::of(&crate::objects::Object::Entry(Arc::clone(&entry.value)).to_json()),
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
