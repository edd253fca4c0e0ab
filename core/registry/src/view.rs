//! A node's view: what its agent may know, and how it follows the log.
//!
//! In view are the descendants of the node's own ID, of every node alias whose selectors the node
//! has, and of the alias of any node, through the IDs that entries give; besides, the node itself,
//! the bundle of its trust domain, and those with which entries in view federate; all that tenants own of
//! whom an actor or an enforcement point is in view; and the platform's policies. Nothing else: neither the
//! aliases nor other nodes' objects.
//!
//! A view depends on the log alone, never on the time, so that it can be followed exactly. An entry
//! leaves it when the server's `Expire` is committed; until then [`Registry::in_view`], which is what
//! signing asks, already refuses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use spiffe::{Selector, SpiffeId, Timestamp, TrustDomain};

use crate::{
    commit::{LogId, Revision},
    delta::{Delta, Follow, Snapshot},
    history::{Audience, Touched},
    objects::{Entry, EntryId, Key, Layer, Node, Stored, TenantName, Versioned},
    registry::Registry,
};

impl Registry {
    /// The whole view of a node; `None` for one that is unknown or banned.
    pub fn view(&self, node: &SpiffeId) -> Option<Snapshot> {
        self.index.seats.get(node)?;
        let node = self.nodes.get(node)?;
        let mut objects = vec![Stored::from(node)];
        let mut trust_domains = BTreeSet::from([self.trust_domain()]);
        let mut tenants = BTreeSet::new();
        let _ = self.each_entry(node, |entry| {
            trust_domains.extend(&entry.value.federates_with);
            tenants.extend(self.index.tenants_of(&entry.value.spiffe_id));
            objects.push(Stored::from(entry));
            ControlFlow::Continue(())
        });
        let bundles = trust_domains.into_iter().filter_map(|name| self.bundles.get(name));
        objects.extend(bundles.map(Stored::from));
        for tenant in tenants {
            objects.extend(self.tenants.get(tenant).map(Stored::from));
            objects.extend(self.index.of_tenant(tenant).filter_map(|key| self.object(key)));
        }
        let platform = self.policies.values().filter(|policy| policy.id.layer == Layer::Platform);
        objects.extend(platform.map(Stored::from));
        Some(Snapshot { log: self.log.clone(), at: self.revision, objects })
    }

    /// Goes through the entries in the view of `node`.
    fn each_entry<'a>(
        &'a self,
        node: &'a Node,
        mut see: impl FnMut(&'a Versioned<Entry>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut seen = BTreeSet::new();
        let mut roots = vec![&node.id, &self.well_known.any_node];
        roots.extend(self.aliases(node).map(|alias| &alias.spiffe_id));
        while let Some(id) = roots.pop() {
            if !seen.insert(id) {
                continue; // reached already, perhaps through a circle
            }
            for entry in self.children(id) {
                roots.push(&entry.value.spiffe_id);
                see(entry)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// What somebody who has the view of `node` at `from` needs to have it as it is now.
    pub fn diff(&self, node: &SpiffeId, log: &LogId, from: Revision) -> Follow {
        let Some(seated_since) = self.index.seats.get(node) else { return Follow::NoView };
        let followed = match *log == self.log && from <= self.revision && from >= *seated_since {
            true if from == self.revision => return Follow::UpToDate,
            true => self.history.since(from),
            false => None,
        };
        let Some(history) = followed else {
            return self.view(node).map_or(Follow::NoView, Follow::Snapshot);
        };
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for (key, (had, has)) in seen_by(node, history) {
            match (had, has) {
                (_, true) => put.extend(self.object(key)),
                (true, false) => gone.push(key.clone()),
                (false, false) => {} // it came and went in between
            }
        }
        Follow::Delta(Delta { log: self.log.clone(), from, to: self.revision, put, gone })
    }

    /// What commits after `from` touched, oldest first; `None` where that is forgotten.
    pub fn touched_since(&self, from: Revision) -> Option<impl Iterator<Item = &Arc<Touched>>> {
        self.history.since(from)
    }

    /// The entry, if it is in the node's view and neither it nor what leads to it has ended.
    pub fn in_view(&self, node: &SpiffeId, entry: &EntryId, now: Timestamp) -> Option<&Versioned<Entry>> {
        self.index.seats.get(node)?;
        let node = self.nodes.get(node)?;
        let entry = self.entries.get(entry).filter(|entry| !has_ended(entry, now))?;
        let mut seen = BTreeSet::new();
        let mut above = vec![entry.parent_id.clone()];
        while let Some(id) = above.pop() {
            if id == node.id || id == self.well_known.any_node {
                return Some(entry);
            }
            if !seen.insert(id.clone()) {
                continue;
            }
            for giver in self.givers(&id).filter(|giver| !has_ended(giver, now)) {
                if giver.parent_id != self.well_known.server {
                    above.push(giver.parent_id.clone());
                } else if giver.selectors.is_subset(&node.selectors) {
                    return Some(entry);
                }
            }
        }
        None
    }

    /// Whether an entry in the node's view federates with `trust_domain`.
    pub fn federates(&self, node: &SpiffeId, trust_domain: &TrustDomain) -> bool {
        let node = self.index.seats.get(node).and_then(|_| self.nodes.get(node));
        node.is_some_and(|node| {
            let found = self.each_entry(node, |entry| match entry.federates_with.contains(trust_domain) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
            found.is_break()
        })
    }

    /// The nodes that have the bundle of a foreign trust domain in view.
    pub(crate) fn nodes_federating(&self, trust_domain: &TrustDomain) -> Audience {
        if !self.bundles.contains_key(trust_domain) {
            return Audience::Nobody;
        }
        let parents: BTreeSet<&SpiffeId> =
            self.federating(trust_domain).map(|entry| &entry.value.parent_id).collect();
        let mut nodes = BTreeSet::new();
        for parent in parents {
            match self.nodes_of(parent) {
                Audience::Everybody => return Audience::Everybody,
                Audience::Nodes(more) => nodes.extend(more.iter().cloned()),
                Audience::Nobody => {}
            }
        }
        Audience::of(nodes)
    }

    /// The nodes on which an actor or an enforcement point of a tenant is placed.
    pub fn nodes_of_tenant(&self, tenant: &TenantName) -> Audience {
        let mut nodes = BTreeSet::new();
        for key in self.index.of_tenant(tenant) {
            let ids: Vec<&SpiffeId> = match key {
                Key::Actor(id) => vec![id],
                Key::Resource(name) => self
                    .resources
                    .get(name)
                    .iter()
                    .flat_map(|resource| &resource.value.enforcement_points)
                    .collect(),
                _ => continue,
            };
            for entry in ids.into_iter().flat_map(|id| self.givers(id)) {
                match self.nodes_of(&entry.parent_id) {
                    Audience::Everybody => return Audience::Everybody,
                    Audience::Nodes(more) => nodes.extend(more.iter().cloned()),
                    Audience::Nobody => {}
                }
            }
        }
        Audience::of(nodes)
    }

    /// The tenant that an object belongs to; `None` where it belongs to nobody.
    pub(crate) fn owner(&self, key: &Key) -> Option<TenantName> {
        match key {
            Key::Tenant(name) => Some(name.clone()),
            Key::Actor(id) => self.actors.get(id).map(|actor| actor.tenant.clone()),
            Key::Mandate(name) => self.mandates.get(name).map(|mandate| mandate.tenant.clone()),
            Key::Resource(name) => self.resources.get(name).map(|resource| resource.tenant.clone()),
            Key::Policy(id) => id.layer.tenant().cloned(),
            Key::Task(id) => self.tasks.get(id).map(|task| task.tenant.clone()),
            Key::Entry(_)
            | Key::Node(_)
            | Key::Token(_)
            | Key::Authority(_)
            | Key::Bundle(_)
            | Key::Proof(_) => None,
        }
    }

    /// The nodes that answer to `id` as a parent: entries under it are in their views.
    pub fn nodes_of(&self, id: &SpiffeId) -> Audience {
        let mut nodes = BTreeSet::new();
        for id in self.ancestry(id) {
            if id == self.well_known.any_node {
                return Audience::Everybody;
            }
            let aliases = self.givers(&id).filter(|giver| giver.parent_id == self.well_known.server);
            nodes.extend(aliases.flat_map(|alias| self.nodes_with(&alias.selectors)));
            if self.index.seats.contains_key(&id) {
                nodes.insert(id);
            }
        }
        Audience::of(nodes)
    }

    /// `id` and the parents of whatever gives it, and so on; the server itself, above the aliases,
    /// is not among them.
    pub(crate) fn ancestry(&self, id: &SpiffeId) -> BTreeSet<SpiffeId> {
        let mut seen = BTreeSet::new();
        let mut above = vec![id.clone()];
        while let Some(id) = above.pop() {
            if seen.contains(&id) {
                continue; // reached already, perhaps through a circle
            }
            let parents = self.givers(&id).map(|giver| &giver.parent_id);
            above.extend(parents.filter(|parent| **parent != self.well_known.server).cloned());
            seen.insert(id);
        }
        seen
    }

    /// The node aliases that stand for `node`, among others.
    fn aliases<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Versioned<Entry>> {
        self.children(&self.well_known.server).filter(|alias| alias.selectors.is_subset(&node.selectors))
    }

    /// The nodes that have all these selectors; an alias for no selector stands for nobody.
    fn nodes_with<'a>(&'a self, selectors: &'a BTreeSet<Selector>) -> impl Iterator<Item = SpiffeId> + 'a {
        let has_all =
            move |id: &SpiffeId| self.nodes.get(id).is_some_and(|node| selectors.is_subset(&node.selectors));
        let first = selectors.first().into_iter();
        first.flat_map(|first| self.seated_with(first)).filter(has_all)
    }

    fn seated_with<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = SpiffeId> + 'a {
        let nodes = self.index.selected.range((selector.clone(), None)..);
        nodes.take_while(move |(other, _)| other == selector).filter_map(|(_, node)| node.clone())
    }
}

/// Which keys of the node's view were touched: whether it had each at first, and has it in the end.
fn seen_by<'a>(
    node: &SpiffeId,
    history: impl Iterator<Item = &'a Arc<Touched>>,
) -> BTreeMap<&'a Key, (bool, bool)> {
    let mut seen: BTreeMap<&Key, (bool, bool)> = BTreeMap::new();
    for touched in history.flat_map(|touched| &touched.keys) {
        let (before, after) = (touched.before.has(node), touched.after.has(node));
        if before || after {
            seen.entry(&touched.key).or_insert((before, after)).1 = after;
        }
    }
    seen
}

fn has_ended(entry: &Entry, now: Timestamp) -> bool {
    entry.expires_at.is_some_and(|end| end <= now)
}
