//! How a commit changes the registry. The cost follows what the commit touches, never what is there.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    commit::{Change, Commit, Revision},
    history::Touched,
    objects::{Key, Object, Versioned},
    registry::Registry,
    touching,
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
        let touched = Arc::new(touching::touched(self, &after, keys));
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
            Key::Proof(sha256) => self.proofs.get(sha256).map_or(0, |object| object.version),
            Key::Tenant(name) => self.tenants.get(name).map_or(0, |object| object.version),
            Key::Actor(id) => self.actors.get(id).map_or(0, |object| object.version),
            Key::Mandate(name) => self.mandates.get(name).map_or(0, |object| object.version),
            Key::Resource(name) => self.resources.get(name).map_or(0, |object| object.version),
            Key::Policy(id) => self.policies.get(id).map_or(0, |object| object.version),
            Key::Task(id) => self.tasks.get(id).map_or(0, |object| object.version),
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
            Change::Delete(Key::Proof(sha256)) => {
                let old = self.proofs.remove(sha256);
                self.index.proof(old.as_deref(), None);
            }
            Change::Delete(Key::Tenant(name)) => drop(self.tenants.remove(name)),
            Change::Delete(Key::Actor(id)) => {
                let old = self.actors.remove(id);
                self.index.actor(old.as_deref(), None);
            }
            Change::Delete(Key::Mandate(name)) => {
                if let Some(old) = self.mandates.remove(name) {
                    self.index.disown(&old.tenant, &change.key());
                }
            }
            Change::Delete(Key::Resource(name)) => {
                let old = self.resources.remove(name);
                self.index.resource(old.as_deref(), None);
            }
            Change::Delete(Key::Policy(id)) => {
                self.policies.remove(id);
                if let Some(tenant) = id.layer.tenant() {
                    self.index.disown(tenant, &change.key());
                }
            }
            Change::Delete(Key::Task(id)) => {
                let old = self.tasks.remove(id);
                self.index.task(old.as_deref(), None);
            }
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
            Object::Proof(proof) => {
                let old = self.proofs.insert(proof.sha256, Versioned::at(version, proof));
                self.index.proof(old.as_deref(), Some(proof));
            }
            Object::Tenant(tenant) => {
                self.tenants.insert(tenant.name.clone(), Versioned::at(version, tenant));
            }
            Object::Actor(actor) => {
                let old = self.actors.insert(actor.id.clone(), Versioned::at(version, actor));
                self.index.actor(old.as_deref(), Some(actor));
            }
            Object::Mandate(mandate) => {
                let old = self.mandates.insert(mandate.name.clone(), Versioned::at(version, mandate));
                old.inspect(|old| self.index.disown(&old.tenant, &object.key()));
                self.index.own(&mandate.tenant, object.key());
            }
            Object::Resource(resource) => {
                let old = self.resources.insert(resource.name.clone(), Versioned::at(version, resource));
                self.index.resource(old.as_deref(), Some(resource));
            }
            Object::Policy(policy) => {
                self.policies.insert(policy.id.clone(), Versioned::at(version, policy));
                policy.id.layer.tenant().inspect(|tenant| self.index.own(tenant, object.key()));
            }
            Object::Task(task) => {
                let old = self.tasks.insert(task.id.clone(), Versioned::at(version, task));
                self.index.task(old.as_deref(), Some(task));
            }
        }
    }
}
