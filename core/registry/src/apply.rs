//! How a commit changes the registry. The cost follows what the commit touches, never what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use spiffe::SpiffeId;

use crate::{
    commit::{Change, Commit, Revision},
    history::{Audience, Touched, TouchedKey},
    index::same_place,
    objects::{Key, Object, Versioned},
    registry::Registry,
};

/// Why a commit does not follow what the registry holds; nothing of it was applied.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// It is not the next one.
    #[error("the registry is at revision {at}, so revision {got} does not follow", at = .at.0, got = .got.0)]
    Revision {
        /// Where the registry is.
        at: Revision,
        /// What came.
        got: Revision,
    },
    /// An object's version is not the next one.
    #[error("{key} is at version {at}, so version {got} does not follow")]
    Version {
        /// The object.
        key: Key,
        /// Its version in the registry; 0 where it is not there.
        at: u64,
        /// The version in the commit.
        got: u64,
    },
    /// An object is deleted that is not there.
    #[error("{0} is deleted but was never there")]
    Missing(Key),
}

impl Registry {
    /// Applies the next commit of the log, whole or not at all, and says what it touched.
    pub fn apply(&mut self, commit: &Commit) -> Result<Arc<Touched>, ApplyError> {
        if commit.revision != self.revision.next() {
            return Err(ApplyError::Revision { at: self.revision, got: commit.revision });
        }
        let mut after = self.clone();
        after.revision = commit.revision;
        let mut keys = BTreeSet::new();
        for change in &commit.changes {
            after.change(change)?;
            keys.insert(change.key());
        }
        let touched = Arc::new(Touching { before: self, after: &after, reach: BTreeMap::new() }.of(keys));
        after.history.push(Arc::clone(&touched));
        *self = after;
        Ok(touched)
    }

    fn change(&mut self, change: &Change) -> Result<(), ApplyError> {
        let key = change.key();
        let at = self.version(&key);
        match change {
            Change::Put { version, .. } if *version != at + 1 => {
                Err(ApplyError::Version { key, at, got: *version })
            }
            Change::Delete(_) if at == 0 => Err(ApplyError::Missing(key)),
            Change::Put { .. } | Change::Delete(_) => {
                self.set(change);
                Ok(())
            }
        }
    }

    /// The version of the object under `key`; 0 where there is none.
    pub(crate) fn version(&self, key: &Key) -> u64 {
        match key {
            Key::Entry(id) => self.entries.get(id).map_or(0, |object| object.version),
            Key::Node(id) => self.nodes.get(id).map_or(0, |object| object.version),
            Key::Token(node) => self.tokens.get(node).map_or(0, |object| object.version),
            Key::Authority(id) => self.authorities.get(id).map_or(0, |object| object.version),
            Key::Bundle(trust_domain) => self.bundles.get(trust_domain).map_or(0, |object| object.version),
        }
    }

    /// Carries out a change whatever was there, and keeps the indexes.
    pub(crate) fn set(&mut self, change: &Change) {
        match change {
            Change::Put { version, object } => self.put(*version, object),
            Change::Delete(Key::Entry(id)) => {
                let old = self.entries.remove(id);
                self.index.entry(old.as_deref(), None);
            }
            Change::Delete(Key::Node(id)) => {
                let old = self.nodes.remove(id);
                self.index.node(old.as_deref(), None, self.revision);
            }
            Change::Delete(Key::Token(node)) => {
                let old = self.tokens.remove(node);
                self.index.token(old.as_deref(), None);
            }
            Change::Delete(Key::Authority(id)) => drop(self.authorities.remove(id)),
            Change::Delete(Key::Bundle(trust_domain)) => drop(self.bundles.remove(trust_domain)),
        }
    }

    fn put(&mut self, version: u64, object: &Object) {
        match object {
            Object::Entry(entry) => {
                let old = self.entries.insert(entry.id.clone(), Versioned::at(version, entry));
                self.index.entry(old.as_deref(), Some(entry));
            }
            Object::Node(node) => {
                let old = self.nodes.insert(node.id.clone(), Versioned::at(version, node));
                self.index.node(old.as_deref(), Some(node), self.revision);
            }
            Object::Token(token) => {
                let old = self.tokens.insert(token.node.clone(), Versioned::at(version, token));
                self.index.token(old.as_deref(), Some(token));
            }
            Object::Authority(authority) => {
                self.authorities.insert(authority.id.clone(), Versioned::at(version, authority));
            }
            Object::Bundle(bundle) => {
                self.bundles.insert(bundle.trust_domain().clone(), Versioned::at(version, bundle));
            }
        }
    }
}

/// Works out what a commit touched, from the registry before and after it.
struct Touching<'a> {
    before: &'a Registry,
    after: &'a Registry,
    /// The nodes that answer to an ID, before and after.
    reach: BTreeMap<SpiffeId, (Audience, Audience)>,
}

impl Touching<'_> {
    fn of(mut self, changed: BTreeSet<Key>) -> Touched {
        let keys = changed.iter().chain(&self.moved(&changed)).cloned().collect::<BTreeSet<_>>();
        let keys = keys.into_iter().map(|key| self.touched(key)).filter(TouchedKey::is_seen).collect();
        let reseated = changed.into_iter().filter_map(|key| self.reseated(key)).collect();
        Touched { revision: self.after.revision, keys, reseated }
    }

    /// Entries that did not change but may have entered or left views, because an entry above did.
    ///
    /// Follows IDs whose reach differs, downwards in both registries. An ID whose reach is the same
    /// cannot move anything below it through itself, and what moves it otherwise is followed too.
    fn moved(&mut self, changed: &BTreeSet<Key>) -> BTreeSet<Key> {
        let mut moved = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut next: Vec<SpiffeId> = Vec::new();
        for key in changed {
            let Key::Entry(id) = key else { continue };
            let (old, new) = (self.before.entries.get(id), self.after.entries.get(id));
            if matches!((old, new), (Some(old), Some(new)) if same_place(old, new)) {
                continue;
            }
            next.extend(old.into_iter().chain(new).map(|entry| entry.spiffe_id.clone()));
        }
        while let Some(id) = next.pop() {
            if !seen.insert(id.clone()) || !self.has_children(&id) {
                continue;
            }
            let (before, after) = self.reach(&id);
            if before == after {
                continue;
            }
            for child in self.before.children(&id).chain(self.after.children(&id)) {
                moved.insert(Key::Entry(child.id.clone()));
                next.push(child.spiffe_id.clone());
            }
        }
        moved
    }

    fn has_children(&self, id: &SpiffeId) -> bool {
        self.before.children(id).next().is_some() || self.after.children(id).next().is_some()
    }

    fn touched(&mut self, key: Key) -> TouchedKey {
        let (before, after) = match &key {
            Key::Entry(id) => {
                let (old, new) = (self.before.entries.get(id), self.after.entries.get(id));
                let before = old.map_or(Audience::Nobody, |entry| self.reach(&entry.parent_id).0);
                let after = new.map_or(Audience::Nobody, |entry| self.reach(&entry.parent_id).1);
                (before, after)
            }
            Key::Node(id) => (itself(self.before, id), itself(self.after, id)),
            Key::Bundle(trust_domain) => {
                let everybody = |registry: &Registry| match registry.bundles.contains_key(trust_domain) {
                    true if trust_domain == registry.trust_domain() => Audience::Everybody,
                    _ => Audience::Nobody,
                };
                (everybody(self.before), everybody(self.after))
            }
            Key::Token(_) | Key::Authority(_) => (Audience::Nobody, Audience::Nobody),
        };
        TouchedKey { key, before, after }
    }

    fn reach(&mut self, id: &SpiffeId) -> (Audience, Audience) {
        let (before, after) = (self.before, self.after);
        self.reach.entry(id.clone()).or_insert_with(|| (before.nodes_of(id), after.nodes_of(id))).clone()
    }

    /// The node of `key`, if its seat is not what it was.
    fn reseated(&self, key: Key) -> Option<SpiffeId> {
        let Key::Node(id) = key else { return None };
        (self.before.index.seats.get(&id) != self.after.index.seats.get(&id)).then_some(id)
    }
}

fn itself(registry: &Registry, node: &SpiffeId) -> Audience {
    match registry.index.seats.contains_key(node) {
        true => Audience::of(BTreeSet::from([node.clone()])),
        false => Audience::Nobody,
    }
}
