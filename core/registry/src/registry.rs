//! The registry: everything the log says, in memory, with the indexes that decisions and views need.
//!
//! All maps are persistent: a clone is O(1), so a writer decides and applies a group of commands on
//! a clone (its draft), commits the group, and then publishes the draft; readers never lock.

use std::sync::Arc;

use imbl::OrdMap;
use spiffe::{SpiffeId, Timestamp, TrustDomain};

use crate::{
    commit::{Change, LogId, Revision},
    history::History,
    index::{Index, hash_of, likeness, same_place},
    objects::{
        Actor, Authority, AuthorityId, Bundle, Entry, EntryId, Key, Mandate, MandateName, Node, NodeName,
        Policy, PolicyId, Proof, Resource, Sha256, Stored, Task, TaskId, Tenant, TenantName, Token,
        Versioned, well_known,
    },
    scope::ResourceName,
    settings::Settings,
};

/// What the log says at one revision.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) settings: Arc<Settings>,
    pub(crate) log: LogId,
    pub(crate) revision: Revision,
    pub(crate) entries: OrdMap<EntryId, Versioned<Entry>>,
    pub(crate) nodes: OrdMap<SpiffeId, Versioned<Node>>,
    pub(crate) tokens: OrdMap<NodeName, Versioned<Token>>,
    pub(crate) authorities: OrdMap<AuthorityId, Versioned<Authority>>,
    pub(crate) bundles: OrdMap<TrustDomain, Versioned<Bundle>>,
    pub(crate) proofs: OrdMap<Sha256, Versioned<Proof>>,
    pub(crate) tenants: OrdMap<TenantName, Versioned<Tenant>>,
    pub(crate) actors: OrdMap<SpiffeId, Versioned<Actor>>,
    pub(crate) mandates: OrdMap<MandateName, Versioned<Mandate>>,
    pub(crate) resources: OrdMap<ResourceName, Versioned<Resource>>,
    pub(crate) policies: OrdMap<PolicyId, Versioned<Policy>>,
    pub(crate) tasks: OrdMap<TaskId, Versioned<Task>>,
    pub(crate) index: Index,
    pub(crate) history: History,
    pub(crate) well_known: Arc<WellKnown>,
}

/// The IDs with a meaning of their own, made once.
#[derive(Debug)]
pub(crate) struct WellKnown {
    pub(crate) server: SpiffeId,
    pub(crate) any_node: SpiffeId,
}

impl Registry {
    /// A registry of a new log, before its first commit.
    pub fn new(settings: Settings, log: LogId) -> Self {
        let well_known = WellKnown {
            server: well_known::server(&settings.trust_domain),
            any_node: well_known::any_node(&settings.trust_domain),
        };
        Self {
            settings: Arc::new(settings),
            log,
            revision: Revision::default(),
            entries: OrdMap::new(),
            nodes: OrdMap::new(),
            tokens: OrdMap::new(),
            authorities: OrdMap::new(),
            bundles: OrdMap::new(),
            proofs: OrdMap::new(),
            tenants: OrdMap::new(),
            actors: OrdMap::new(),
            mandates: OrdMap::new(),
            resources: OrdMap::new(),
            policies: OrdMap::new(),
            tasks: OrdMap::new(),
            index: Index::default(),
            history: History::default(),
            well_known: Arc::new(well_known),
        }
    }

    /// The registry of a log that holds `objects` at `revision`. Views can be followed from there on.
    pub fn restore(
        settings: Settings,
        log: LogId,
        revision: Revision,
        objects: impl IntoIterator<Item = Stored>,
    ) -> Self {
        let mut registry = Self::new(settings, log);
        registry.revision = revision;
        registry.history = History::starting_at(revision);
        for stored in objects {
            registry.set(&Change::Put { version: stored.version, object: stored.object });
        }
        registry
    }

    /// What the configuration says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whose registry this is.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.settings.trust_domain
    }

    /// The log that this follows.
    pub fn log(&self) -> &LogId {
        &self.log
    }

    /// The last commit that is in here.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The object under `key`.
    pub fn object(&self, key: &Key) -> Option<Stored> {
        match key {
            Key::Entry(id) => self.entries.get(id).map(Stored::from),
            Key::Node(id) => self.nodes.get(id).map(Stored::from),
            Key::Token(node) => self.tokens.get(node).map(Stored::from),
            Key::Authority(id) => self.authorities.get(id).map(Stored::from),
            Key::Bundle(trust_domain) => self.bundles.get(trust_domain).map(Stored::from),
            Key::Proof(sha256) => self.proofs.get(sha256).map(Stored::from),
            Key::Tenant(name) => self.tenants.get(name).map(Stored::from),
            Key::Actor(id) => self.actors.get(id).map(Stored::from),
            Key::Mandate(name) => self.mandates.get(name).map(Stored::from),
            Key::Resource(name) => self.resources.get(name).map(Stored::from),
            Key::Policy(id) => self.policies.get(id).map(Stored::from),
            Key::Task(id) => self.tasks.get(id).map(Stored::from),
        }
    }

    /// The entry of this name.
    pub fn entry(&self, id: &EntryId) -> Option<&Versioned<Entry>> {
        self.entries.get(id)
    }

    /// All entries, by name.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Versioned<Entry>> {
        self.entries.values()
    }

    /// The entries whose names come after `last`: the next page of a list.
    pub fn entries_after(&self, last: &EntryId) -> impl Iterator<Item = &Versioned<Entry>> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.entries.range((Excluded(last), Unbounded)).map(|(_, entry)| entry)
    }

    /// The entries whose parent is `id`.
    pub fn children<'a>(&'a self, id: &'a SpiffeId) -> impl Iterator<Item = &'a Versioned<Entry>> {
        let entries = self.index.children.under(hash_of(id)).filter_map(|entry| self.entries.get(entry));
        entries.filter(move |entry| entry.parent_id == *id)
    }

    /// The entries that give `id`.
    pub fn givers<'a>(&'a self, id: &'a SpiffeId) -> impl Iterator<Item = &'a Versioned<Entry>> {
        let entries = self.index.givers.under(hash_of(id)).filter_map(|entry| self.entries.get(entry));
        entries.filter(move |entry| entry.spiffe_id == *id)
    }

    /// The entry that has the same SPIFFE ID, parent and selectors: at most one, as in SPIRE.
    pub fn similar(&self, entry: &Entry) -> Option<&Versioned<Entry>> {
        let mut entries = self.index.similar.under(likeness(entry)).filter_map(|id| self.entries.get(id));
        entries.find(|other| same_place(other, entry))
    }

    /// The node with this SPIFFE ID.
    pub fn node(&self, id: &SpiffeId) -> Option<&Versioned<Node>> {
        self.nodes.get(id)
    }

    /// All nodes, by SPIFFE ID.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Versioned<Node>> {
        self.nodes.values()
    }

    /// The join token of this node.
    pub fn token(&self, node: &NodeName) -> Option<&Versioned<Token>> {
        self.tokens.get(node)
    }

    /// All join tokens, by node.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &Versioned<Token>> {
        self.tokens.values()
    }

    /// The use that was made of the proof with this digest.
    pub fn proof(&self, sha256: &Sha256) -> Option<&Versioned<Proof>> {
        self.proofs.get(sha256)
    }

    /// The tenant of this name.
    pub fn tenant(&self, name: &TenantName) -> Option<&Versioned<Tenant>> {
        self.tenants.get(name)
    }

    /// All tenants, by name.
    pub fn tenants(&self) -> impl ExactSizeIterator<Item = &Versioned<Tenant>> {
        self.tenants.values()
    }

    /// The actor with this SPIFFE ID.
    pub fn actor(&self, id: &SpiffeId) -> Option<&Versioned<Actor>> {
        self.actors.get(id)
    }

    /// All actors, by SPIFFE ID.
    pub fn actors(&self) -> impl ExactSizeIterator<Item = &Versioned<Actor>> {
        self.actors.values()
    }

    /// The mandate of this name.
    pub fn mandate(&self, name: &MandateName) -> Option<&Versioned<Mandate>> {
        self.mandates.get(name)
    }

    /// All mandates, by name.
    pub fn mandates(&self) -> impl ExactSizeIterator<Item = &Versioned<Mandate>> {
        self.mandates.values()
    }

    /// The resource of this name.
    pub fn resource(&self, name: &ResourceName) -> Option<&Versioned<Resource>> {
        self.resources.get(name)
    }

    /// All resources, by name.
    pub fn resources(&self) -> impl ExactSizeIterator<Item = &Versioned<Resource>> {
        self.resources.values()
    }

    /// The policy of this name.
    pub fn policy(&self, id: &PolicyId) -> Option<&Versioned<Policy>> {
        self.policies.get(id)
    }

    /// All policies, by layer and name.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &Versioned<Policy>> {
        self.policies.values()
    }

    /// The task of this name.
    pub fn task(&self, id: &TaskId) -> Option<&Versioned<Task>> {
        self.tasks.get(id)
    }

    /// All tasks that are not forgotten, the oldest first.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = &Versioned<Task>> {
        self.tasks.values()
    }

    /// The authority with this subject key identifier.
    pub fn authority(&self, id: &AuthorityId) -> Option<&Versioned<Authority>> {
        self.authorities.get(id)
    }

    /// All authorities of this trust domain.
    pub fn authorities(&self) -> impl ExactSizeIterator<Item = &Versioned<Authority>> {
        self.authorities.values()
    }

    /// The trust bundle of `trust_domain`.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Versioned<Bundle>> {
        self.bundles.get(trust_domain)
    }

    /// All bundles, by trust domain.
    pub fn bundles(&self) -> impl ExactSizeIterator<Item = &Versioned<Bundle>> {
        self.bundles.values()
    }

    /// The bundles of other trust domains, by name.
    pub fn foreign_bundles(&self) -> impl Iterator<Item = &Versioned<Bundle>> {
        self.bundles.values().filter(|bundle| bundle.trust_domain() != self.trust_domain())
    }

    /// The entries that federate with `trust_domain`.
    pub fn federating<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
    ) -> impl Iterator<Item = &'a Versioned<Entry>> {
        let entries = self.index.federating.range((trust_domain.clone(), None)..);
        let entries = entries.take_while(move |(name, _)| name == trust_domain);
        entries.filter_map(|(_, entry)| self.entries.get(entry.as_ref()?))
    }

    /// When the next object ends, so that [`crate::decide::expire::Expire`] has something to do.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.index.ends.get_min().map(|(end, _)| *end)
    }
}
