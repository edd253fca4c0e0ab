//! What a commit touched and whom it concerns, worked out from the registry before and after it.

use std::collections::{BTreeMap, BTreeSet};

use spiffe::SpiffeId;

use crate::{
    history::{Audience, Touched, TouchedKey},
    index::same_place,
    objects::{Entry, EntryId, Key},
    registry::Registry,
};

/// What the commit that changed the objects under `changed` touched. Its cost follows the entries that
/// it touched, those included that it moved in or out of views without changing them.
pub(crate) fn touched(before: &Registry, after: &Registry, changed: BTreeSet<Key>) -> Touched {
    let mut touching = Touching { before, after, reach: BTreeMap::new() };
    let mut entries = BTreeMap::new();
    let mut keys = Vec::new();
    let mut reseated = BTreeSet::new();
    for key in changed {
        match key {
            Key::Entry(id) => drop(entries.insert(id.clone(), touching.places(&id))),
            Key::Node(id) => {
                if before.index.seats.get(&id) != after.index.seats.get(&id) {
                    reseated.insert(id.clone());
                }
                let (before, after) = (itself(before, &id), itself(after, &id));
                keys.push(TouchedKey { key: Key::Node(id), before, after });
            }
            Key::Bundle(_) => {
                let (before, after) = (all_for(before, &key), all_for(after, &key));
                keys.push(TouchedKey { key, before, after });
            }
            Key::Token(_) | Key::Authority(_) => {} // in nobody's view
        }
    }
    for id in touching.moved(&entries) {
        let places = touching.places(&id);
        entries.insert(id, places);
    }
    keys.extend(entries.into_iter().map(|(id, places)| touching.entry(id, places)));
    keys.retain(TouchedKey::is_seen);
    Touched { revision: after.revision, keys, reseated }
}

struct Touching<'a> {
    before: &'a Registry,
    after: &'a Registry,
    /// The nodes that answer to an ID, before and after.
    reach: BTreeMap<SpiffeId, (Audience, Audience)>,
}

/// An entry as it was and as it is.
type Places<'a> = (Option<&'a Entry>, Option<&'a Entry>);

impl<'a> Touching<'a> {
    fn places(&self, id: &EntryId) -> Places<'a> {
        (
            self.before.entries.get(id).map(|entry| &*entry.value),
            self.after.entries.get(id).map(|entry| &*entry.value),
        )
    }

    /// Entries that did not change but may have entered or left views, because an entry above did.
    ///
    /// Follows IDs whose reach differs, downwards in both registries. An ID whose reach is the same
    /// cannot move anything below it through itself, and what moves it otherwise is followed too.
    fn moved(&mut self, changed: &BTreeMap<EntryId, Places<'a>>) -> BTreeSet<EntryId> {
        let mut moved = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let replaced = changed.values().filter(|(old, new)| match (old, new) {
            (Some(old), Some(new)) => !same_place(old, new),
            _ => true,
        });
        let mut next: Vec<&SpiffeId> =
            replaced.flat_map(|(old, new)| old.iter().chain(new)).map(|entry| &entry.spiffe_id).collect();
        while let Some(id) = next.pop() {
            if !seen.insert(id) || !self.has_children(id) {
                continue;
            }
            let (before, after) = self.reach(id);
            if before == after {
                continue;
            }
            for child in self.before.children(id).chain(self.after.children(id)) {
                moved.insert(child.id.clone());
                next.push(&child.spiffe_id);
            }
        }
        moved
    }

    fn has_children(&self, id: &SpiffeId) -> bool {
        self.before.children(id).next().is_some() || self.after.children(id).next().is_some()
    }

    fn entry(&mut self, id: EntryId, (old, new): Places<'a>) -> TouchedKey {
        let before = old.map_or(Audience::Nobody, |entry| self.reach(&entry.parent_id).0);
        let after = new.map_or(Audience::Nobody, |entry| self.reach(&entry.parent_id).1);
        TouchedKey { key: Key::Entry(id), before, after }
    }

    fn reach(&mut self, id: &SpiffeId) -> (Audience, Audience) {
        if let Some(reach) = self.reach.get(id) {
            return reach.clone();
        }
        let reach = (self.before.nodes_of(id), self.after.nodes_of(id));
        self.reach.insert(id.clone(), reach.clone());
        reach
    }
}

/// A node's own object is in its own view.
fn itself(registry: &Registry, node: &SpiffeId) -> Audience {
    match registry.index.seats.contains_key(node) {
        true => Audience::of(BTreeSet::from([node.clone()])),
        false => Audience::Nobody,
    }
}

/// The bundle of the trust domain is in every view; others come with federation.
fn all_for(registry: &Registry, bundle: &Key) -> Audience {
    match *bundle == Key::Bundle(registry.trust_domain().clone()) && registry.object(bundle).is_some() {
        true => Audience::Everybody,
        false => Audience::Nobody,
    }
}
