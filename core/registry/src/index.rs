//! What is found by something else than its key. All of it follows from the objects alone.

use imbl::{OrdMap, OrdSet};
use spiffe::{Selector, SpiffeId, Timestamp, TrustDomain};

use crate::{
    commit::Revision,
    objects::{
        Actor, Entry, EntryId, Key, MandateName, Node, Proof, Resource, Task, TaskId, TaskState, TenantName,
        Token, TokenState,
    },
    settings::{TASK_MEMORY, TOKEN_MEMORY},
};

/// The indexes of a registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Entries by their parent ID.
    pub(crate) children: ByHash,
    /// Entries by the ID that they give.
    pub(crate) givers: ByHash,
    /// Entries by what makes two of them similar.
    pub(crate) similar: ByHash,
    /// Entries by the trust domains with which they federate; `None` sorts before all entries.
    pub(crate) federating: OrdSet<(TrustDomain, Option<EntryId>)>,
    /// What ends, by when it does.
    pub(crate) ends: OrdSet<(Timestamp, Key)>,
    /// Nodes that have a view, by their selectors; `None` sorts before all nodes.
    pub(crate) selected: OrdSet<(Selector, Option<SpiffeId>)>,
    /// Nodes that have a view, and since which revision it can be followed.
    pub(crate) seats: OrdMap<SpiffeId, Revision>,
    /// What belongs to a tenant besides itself; `None` sorts before all objects.
    pub(crate) owned: OrdSet<(TenantName, Option<Key>)>,
    /// Actors' and enforcement points' IDs, with the object that names them and its tenant; `None` sorts before
    /// all objects.
    pub(crate) concerned: OrdSet<(SpiffeId, Option<(Key, TenantName)>)>,
    /// Tasks that are not over, by what they end with; `None` sorts before all tasks.
    pub(crate) working: OrdSet<(Holder, Option<TaskId>)>,
}

/// What a task ends with.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Holder {
    Actor(SpiffeId),
    Mandate(MandateName),
    Node(SpiffeId),
    Parent(TaskId),
    Tenant(TenantName),
}

impl Index {
    /// Follows an entry from what it was to what it is.
    pub(crate) fn entry(&mut self, old: Option<&Entry>, new: Option<&Entry>) {
        if let (Some(old), Some(new)) = (old, new)
            && same_place(old, new)
            && old.expires_at == new.expires_at
            && old.federates_with == new.federates_with
        {
            return;
        }
        if let Some(entry) = old {
            self.children.remove(hash_of(&entry.parent_id), &entry.id);
            self.givers.remove(hash_of(&entry.spiffe_id), &entry.id);
            self.similar.remove(likeness(entry), &entry.id);
            for trust_domain in &entry.federates_with {
                self.federating.remove(&(trust_domain.clone(), Some(entry.id.clone())));
            }
            if let Some(end) = entry.expires_at {
                self.ends.remove(&(end, Key::Entry(entry.id.clone())));
            }
        }
        if let Some(entry) = new {
            self.children.insert(hash_of(&entry.parent_id), &entry.id);
            self.givers.insert(hash_of(&entry.spiffe_id), &entry.id);
            self.similar.insert(likeness(entry), &entry.id);
            for trust_domain in &entry.federates_with {
                self.federating.insert((trust_domain.clone(), Some(entry.id.clone())));
            }
            if let Some(end) = entry.expires_at {
                self.ends.insert((end, Key::Entry(entry.id.clone())));
            }
        }
    }

    /// Follows a node. It has a seat, and so a view, unless it is banned or fenced. Whoever sits down anew, or
    /// with other selectors, begins a new view; a renewed certificate changes nothing of it.
    pub(crate) fn node(&mut self, old: Option<&Node>, new: Option<&Node>, revision: Revision) {
        let old = old.filter(|node| node.state.is_admitted());
        let new = new.filter(|node| node.state.is_admitted());
        if let (Some(old), Some(new)) = (old, new)
            && old.selectors == new.selectors
        {
            return;
        }
        if let Some(node) = old {
            self.seats.remove(&node.id);
            for selector in &node.selectors {
                self.selected.remove(&(selector.clone(), Some(node.id.clone())));
            }
        }
        if let Some(node) = new {
            self.seats.insert(node.id.clone(), revision);
            for selector in &node.selectors {
                self.selected.insert((selector.clone(), Some(node.id.clone())));
            }
        }
    }

    /// Follows a token.
    pub(crate) fn token(&mut self, old: Option<&Token>, new: Option<&Token>) {
        if let Some((end, key)) = old.and_then(token_end) {
            self.ends.remove(&(end, key));
        }
        if let Some((end, key)) = new.and_then(token_end) {
            self.ends.insert((end, key));
        }
    }

    /// Follows a proof.
    pub(crate) fn proof(&mut self, old: Option<&Proof>, new: Option<&Proof>) {
        let end = |proof: &Proof| (proof.until, Key::Proof(proof.sha256));
        if let Some(old) = old {
            self.ends.remove(&end(old));
        }
        if let Some(new) = new {
            self.ends.insert(end(new));
        }
    }
}

impl Index {
    /// Follows an actor.
    pub(crate) fn actor(&mut self, old: Option<&Actor>, new: Option<&Actor>) {
        let key = |actor: &Actor| Key::Actor(actor.id.clone());
        if let Some(old) = old {
            self.disown(&old.tenant, &key(old));
            self.concerned.remove(&(old.id.clone(), Some((key(old), old.tenant.clone()))));
            self.ends.remove(&(old.review_at, key(old)));
        }
        if let Some(new) = new {
            self.own(&new.tenant, key(new));
            self.concerned.insert((new.id.clone(), Some((key(new), new.tenant.clone()))));
            if !new.overdue {
                self.ends.insert((new.review_at, key(new)));
            }
        }
    }

    /// Follows a resource.
    pub(crate) fn resource(&mut self, old: Option<&Resource>, new: Option<&Resource>) {
        let key = |resource: &Resource| Key::Resource(resource.name.clone());
        if let Some(old) = old {
            self.disown(&old.tenant, &key(old));
            for id in &old.enforcement_points {
                self.concerned.remove(&(id.clone(), Some((key(old), old.tenant.clone()))));
            }
        }
        if let Some(new) = new {
            self.own(&new.tenant, key(new));
            for id in &new.enforcement_points {
                self.concerned.insert((id.clone(), Some((key(new), new.tenant.clone()))));
            }
        }
    }

    /// Follows a task.
    pub(crate) fn task(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let key = |task: &Task| Key::Task(task.id.clone());
        if let Some(old) = old {
            self.disown(&old.tenant, &key(old));
            self.ends.remove(&(task_end(old), key(old)));
            for holder in holders(old) {
                self.working.remove(&(holder, Some(old.id.clone())));
            }
        }
        if let Some(new) = new {
            self.own(&new.tenant, key(new));
            self.ends.insert((task_end(new), key(new)));
            for holder in holders(new).filter(|_| !new.is_ended()) {
                self.working.insert((holder, Some(new.id.clone())));
            }
        }
    }

    /// The tasks that end with `holder` and are not over, the oldest first.
    pub(crate) fn held_by<'a>(&'a self, holder: &'a Holder) -> impl Iterator<Item = &'a TaskId> {
        let from_here = self.working.range((holder.clone(), None)..);
        from_here.take_while(move |(other, _)| other == holder).filter_map(|(_, task)| task.as_ref())
    }

    /// Something belongs to a tenant.
    pub(crate) fn own(&mut self, tenant: &TenantName, key: Key) {
        self.owned.insert((tenant.clone(), Some(key)));
    }

    /// It no longer does.
    pub(crate) fn disown(&mut self, tenant: &TenantName, key: &Key) {
        self.owned.remove(&(tenant.clone(), Some(key.clone())));
    }

    /// What belongs to a tenant besides itself.
    pub(crate) fn of_tenant<'a>(&'a self, tenant: &'a TenantName) -> impl Iterator<Item = &'a Key> {
        let from_here = self.owned.range((tenant.clone(), None)..);
        from_here.take_while(move |(other, _)| other == tenant).filter_map(|(_, key)| key.as_ref())
    }

    /// The tenants that have an actor or an enforcement point with this ID.
    pub(crate) fn tenants_of<'a>(&'a self, id: &'a SpiffeId) -> impl Iterator<Item = &'a TenantName> {
        let from_here = self.concerned.range((id.clone(), None)..);
        let here = from_here.take_while(move |(other, _)| other == id);
        here.filter_map(|(_, owner)| owner.as_ref().map(|(_, tenant)| tenant))
    }
}

fn holders(task: &Task) -> impl Iterator<Item = Holder> {
    let parent = task.parent.clone().map(Holder::Parent);
    let others = [
        Holder::Actor(task.actor.clone()),
        Holder::Mandate(task.mandate.clone()),
        Holder::Node(task.home.clone()),
        Holder::Tenant(task.tenant.clone()),
    ];
    others.into_iter().chain(parent)
}

/// When something is due for a task: its end, and later that its tombstone is forgotten.
fn task_end(task: &Task) -> Timestamp {
    match &task.state {
        TaskState::Active | TaskState::Suspended { .. } => task.expires_at,
        TaskState::Ended { at, .. } => *at + TASK_MEMORY,
    }
}

/// Entries under the hash of something that they hold. The hash only narrows the search down:
/// whoever looks compares the thing itself, so things that share a hash do no harm.
///
/// Short keys matter: a batch copies hundreds of tree nodes, and copies cost what their keys weigh.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByHash(OrdSet<(u64, Option<EntryId>)>);

impl ByHash {
    fn insert(&mut self, hash: u64, entry: &EntryId) {
        self.0.insert((hash, Some(entry.clone())));
    }

    fn remove(&mut self, hash: u64, entry: &EntryId) {
        self.0.remove(&(hash, Some(entry.clone())));
    }

    /// The entries under `hash`, by name.
    pub(crate) fn under(&self, hash: u64) -> impl Iterator<Item = &EntryId> {
        let from_here = self.0.range((hash, None)..);
        from_here.take_while(move |(other, _)| *other == hash).filter_map(|(_, entry)| entry.as_ref())
    }
}

/// Whether both stand at the same place of the tree, which also makes two entries similar (SPIRE's
/// rule): a change of anything else moves nothing.
pub(crate) fn same_place(one: &Entry, other: &Entry) -> bool {
    one.spiffe_id == other.spiffe_id && one.parent_id == other.parent_id && one.selectors == other.selectors
}

/// The hash of an entry's place.
pub(crate) fn likeness(entry: &Entry) -> u64 {
    let ids = [entry.spiffe_id.as_str(), entry.parent_id.as_str()];
    hash(ids.into_iter().chain(entry.selectors.iter().map(Selector::as_str)))
}

/// The hash of an ID.
pub(crate) fn hash_of(id: &SpiffeId) -> u64 {
    hash([id.as_str()])
}

/// FNV-1a, the same on every machine, with a mark between texts.
fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        for byte in text.bytes().chain([b'\n']) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

/// When an unspent token is forgotten. A spent one stays as long as its node does.
fn token_end(token: &Token) -> Option<(Timestamp, Key)> {
    match token.state {
        TokenState::Spent { .. } => None,
        TokenState::Fresh | TokenState::Bound { .. } => {
            Some((token.expires_at + TOKEN_MEMORY, Key::Token(token.node.clone())))
        }
    }
}
