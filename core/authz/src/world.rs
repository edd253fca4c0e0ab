//! Everything that is the same for all tasks of a node: who there is, what may be called, the policies.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use cedar_policy::Entities;
use imbl::HashMap;
use registry::{
    objects::{Actor, Key, Object, Owners, Policy, PolicyId, Resource, Tenant, TenantName, Tool},
    scope::{ResourceName, ToolName},
};
use spiffe::SpiffeId;

use crate::{
    facts::{self, Known},
    policy::Policies,
};

/// The objects that decisions need, as the node's view of the log has them. A clone is cheap and shares
/// everything: change one, [`World::settle`] it, and put it in the place of the other.
#[derive(Clone, Debug, Default)]
pub struct World {
    tenants: HashMap<TenantName, Arc<(Arc<Tenant>, Known)>>,
    actors: HashMap<SpiffeId, Arc<(Arc<Actor>, Known)>>,
    resources: HashMap<ResourceName, Arc<Guarded>>,
    texts: BTreeMap<PolicyId, Arc<Policy>>,
    policies: Policies,
}

/// A resource with its tools, as policies see them.
#[derive(Debug)]
pub(crate) struct Guarded {
    pub(crate) resource: Arc<Resource>,
    pub(crate) known: Known,
    tools: BTreeMap<String, Callable>,
}

/// A tool, as policies see it.
#[derive(Debug)]
pub(crate) struct Callable {
    pub(crate) known: Known,
    /// What its policies see besides, whoever calls it.
    pub(crate) action: Known,
    around: OnceLock<Entities>,
}

impl World {
    /// Takes an object in, or its new version; those that no decision needs are left out.
    pub fn put(&mut self, object: &Object) {
        match object {
            Object::Tenant(tenant) => {
                let known = facts::tenant(&tenant.name);
                self.tenants.insert(tenant.name.clone(), Arc::new((Arc::clone(tenant), known)));
            }
            Object::Actor(actor) => {
                let known = facts::actor(actor);
                self.actors.insert(actor.id.clone(), Arc::new((Arc::clone(actor), known)));
            }
            Object::Resource(resource) => {
                self.resources.insert(resource.name.clone(), Arc::new(Guarded::of(resource)));
            }
            Object::Policy(policy) => drop(self.texts.insert(policy.id.clone(), Arc::clone(policy))),
            _ => {}
        }
    }

    /// Lets an object go.
    pub fn remove(&mut self, key: &Key) {
        match key {
            Key::Tenant(name) => drop(self.tenants.remove(name)),
            Key::Actor(id) => drop(self.actors.remove(id)),
            Key::Resource(name) => drop(self.resources.remove(name)),
            Key::Policy(id) => drop(self.texts.remove(id)),
            _ => {}
        }
    }

    /// Compiles the policies that changed. Until then the old ones decide.
    pub fn settle(&mut self) {
        self.policies = Policies::compile(self.texts.values().map(Arc::as_ref), &self.policies);
    }

    /// The policies that decide.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// A resource that calls may go to.
    pub fn resource(&self, name: &ResourceName) -> Option<&Arc<Resource>> {
        self.resources.get(name).map(|guarded| &guarded.resource)
    }

    /// Whose the parts of a label are, as far as this node sees.
    pub(crate) fn owners<'a>(&'a self, owner: &'a TenantName) -> Owners<'a> {
        let tenants = self.tenants.values().map(|known| known.0.as_ref());
        Owners::new(owner, tenants, self.resources.values().map(|guarded| guarded.resource.as_ref()))
    }

    pub(crate) fn guarded(&self, name: &ResourceName) -> Option<&Arc<Guarded>> {
        self.resources.get(name)
    }

    pub(crate) fn actor(&self, id: &SpiffeId) -> Option<(&Actor, &Known)> {
        self.actors.get(id).map(|known| (known.0.as_ref(), &known.1))
    }

    pub(crate) fn tenant(&self, name: &TenantName) -> Option<(&Tenant, &Known)> {
        self.tenants.get(name).map(|known| (known.0.as_ref(), &known.1))
    }
}

impl Guarded {
    fn of(resource: &Arc<Resource>) -> Self {
        let tools = resource.tools.iter().filter_map(|(name, tool)| {
            let full: ToolName = format!("{}/{name}", resource.name).parse().ok()?;
            Some((name.clone(), Callable::of(&full, tool, resource)))
        });
        Self { known: facts::resource(resource), tools: tools.collect(), resource: Arc::clone(resource) }
    }

    pub(crate) fn tool(&self, name: &ToolName) -> Option<(&Tool, &Callable)> {
        Some((self.resource.tool(name)?, self.tools.get(name.tool())?))
    }

    /// The entities of a call of this tool that are the same whoever makes it, ready to be shared.
    pub(crate) fn entities(&self, tool: &Callable) -> Entities {
        let make = || {
            let owner = facts::tenant(&self.resource.tenant);
            let all = [&tool.known, &tool.action, &self.known, &owner].map(|known| known.entity.clone());
            // INVARIANT: they are of different types, and none is in one that is in it.
            Entities::from_entities(all, None).expect("different entities without a circle")
        };
        tool.around.get_or_init(make).clone()
    }
}

impl Callable {
    fn of(name: &ToolName, tool: &Tool, resource: &Resource) -> Self {
        Self {
            known: facts::tool(name, tool, resource),
            action: facts::action(tool.effect),
            around: OnceLock::new(),
        }
    }
}
