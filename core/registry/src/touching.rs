//! What a commit touched and whom it concerns, worked out from the registry before and after it.

use std::collections::{BTreeMap, BTreeSet};

use spiffe::{SpiffeId, TrustDomain};

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
    let mut bundles = BTreeSet::new();
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
            Key::Bundle(trust_domain) => drop(bundles.insert(trust_domain)),
            Key::Token(_) | Key::Authority(_) | Key::Proof(_) => {} // in nobody's view
        }
    }
    for id in touching.moved(&entries) {
        let places = touching.places(&id);
        entries.insert(id, places);
    }
    keys.extend(touching.federated(&entries, &bundles));
    for trust_domain in bundles {
        let (before, after) = (with_bundle(before, &trust_domain), with_bundle(after, &trust_domain));
        keys.push(TouchedKey { key: Key::Bundle(trust_domain), before, after });
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

    /// Bundles that did not change but entered or left views, because entries that federate with their
    /// trust domains did, or began or ceased to federate.
    fn federated(
        &mut self,
        entries: &BTreeMap<EntryId, Places<'a>>,
        changed: &BTreeSet<TrustDomain>,
    ) -> Vec<TouchedKey> {
        let mut concerned: BTreeMap<&TrustDomain, Vec<Audience>> = BTreeMap::new();
        for (old, new) in entries.values() {
            for (entry, is_old) in old.iter().map(|old| (old, true)).chain(new.iter().map(|new| (new, false)))
            {
                for trust_domain in &entry.federates_with {
                    let (before, after) = self.reach(&entry.parent_id);
                    concerned.entry(trust_domain).or_default().push(if is_old { before } else { after });
                }
            }
        }
        concerned.retain(|trust_domain, _| {
            !changed.contains(*trust_domain) && self.after.bundles.contains_key(*trust_domain)
        });
        concerned.into_iter().map(|(td, reaches)| self.bundle(td, &reaches)).collect()
    }

    /// An unchanged bundle: where only some nodes are concerned, each is asked about its own view.
    fn bundle(&self, trust_domain: &TrustDomain, reaches: &[Audience]) -> TouchedKey {
        let key = Key::Bundle(trust_domain.clone());
        let mut nodes = BTreeSet::new();
        for reach in reaches {
            match reach {
                Audience::Nobody => {}
                Audience::Nodes(some) => nodes.extend(some.iter().cloned()),
                Audience::Everybody => {
                    let before = self.before.nodes_federating(trust_domain);
                    let after = self.after.nodes_federating(trust_domain);
                    return match before == after {
                        true => TouchedKey { key, before: Audience::Nobody, after: Audience::Nobody },
                        false => TouchedKey { key, before, after },
                    };
                }
            }
        }
        let (mut had, mut has) = (BTreeSet::new(), BTreeSet::new());
        for node in nodes {
            match (self.before.federates(&node, trust_domain), self.after.federates(&node, trust_domain)) {
                (true, false) => drop(had.insert(node)),
                (false, true) => drop(has.insert(node)),
                _ => {}
            }
        }
        TouchedKey { key, before: Audience::of(had), after: Audience::of(has) }
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
fn with_bundle(registry: &Registry, trust_domain: &TrustDomain) -> Audience {
    match trust_domain == registry.trust_domain() && registry.bundle(trust_domain).is_some() {
        true => Audience::Everybody,
        false => registry.nodes_federating(trust_domain),
    }
}
