//! What a commit touched and whom it concerns, worked out from the registry before and after it.

use std::collections::{BTreeMap, BTreeSet};

use spiffe::{SpiffeId, TrustDomain};

use crate::{
    history::{Audience, Touched, TouchedKey},
    index::same_place,
    objects::{Entry, EntryId, Key, TenantName},
    registry::Registry,
};

/// What the commit that changed the objects under `changed` touched. Its cost follows the entries that
/// it touched, those included that it moved in or out of views without changing them.
pub(crate) fn touched(before: &Registry, after: &Registry, changed: BTreeSet<Key>) -> Touched {
    let mut touching = Touching { before, after, reach: BTreeMap::new() };
    let mut entries = BTreeMap::new();
    let mut keys = Vec::new();
    let mut reseated = BTreeSet::new();
    let (mut bundles, mut governed) = (BTreeSet::new(), BTreeSet::new());
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
            Key::Tenant(_)
            | Key::Actor(_)
            | Key::Mandate(_)
            | Key::Resource(_)
            | Key::Policy(_)
            | Key::Task(_) => drop(governed.insert(key)),
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
    keys.extend(touching.governed(&entries, governed));
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

    /// What tenants own is seen by nodes on which an actor or an enforcement point of theirs is placed: all of
    /// it, so that whoever could honour a task learns of its end. The platform's policies are seen by all.
    fn governed(&self, entries: &BTreeMap<EntryId, Places<'a>>, changed: BTreeSet<Key>) -> Vec<TouchedKey> {
        let mut tenants = BTreeSet::new();
        for entry in entries.values().flat_map(|(old, new)| old.iter().chain(new)) {
            for registry in [self.before, self.after] {
                tenants.extend(registry.index.tenants_of(&entry.spiffe_id).cloned());
            }
        }
        let mut touched = Vec::new();
        let mut of_tenants: BTreeMap<TenantName, Vec<Key>> =
            tenants.into_iter().map(|tenant| (tenant, Vec::new())).collect();
        for key in changed {
            let mut owners: Vec<_> = [self.before, self.after].iter().filter_map(|r| r.owner(&key)).collect();
            owners.dedup();
            if owners.is_empty() {
                let seen = |registry: &Registry| match registry.version(&key) {
                    0 => Audience::Nobody,
                    _ => Audience::Everybody,
                };
                touched.push(TouchedKey {
                    before: seen(self.before),
                    after: seen(self.after),
                    key: key.clone(),
                });
            }
            owners.into_iter().for_each(|owner| of_tenants.entry(owner).or_default().push(key.clone()));
        }
        let mut keys = BTreeSet::new();
        let mut reach = BTreeMap::new();
        for (tenant, changed) in of_tenants {
            let (before, after) = (self.before.nodes_of_tenant(&tenant), self.after.nodes_of_tenant(&tenant));
            match before == after {
                true => keys.extend(changed),
                // Everything of the tenant comes into some view, or leaves it.
                false => {
                    keys.extend(changed);
                    for registry in [self.before, self.after] {
                        keys.extend(registry.index.of_tenant(&tenant).cloned());
                    }
                    keys.insert(Key::Tenant(tenant.clone()));
                }
            }
            reach.insert(tenant, (before, after));
        }
        touched.extend(keys.into_iter().map(|key| {
            let seen = |registry: &Registry, side: fn(&(Audience, Audience)) -> &Audience| {
                let owner = registry.owner(&key).filter(|_| registry.version(&key) > 0);
                owner.map_or(Audience::Nobody, |owner| match reach.get(&owner) {
                    Some(both) => side(both).clone(),
                    None => registry.nodes_of_tenant(&owner),
                })
            };
            TouchedKey {
                before: seen(self.before, |b| &b.0),
                after: seen(self.after, |b| &b.1),
                key: key.clone(),
            }
        }));
        touched
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
