//! Tenants, and their kill switch.

use std::collections::BTreeSet;

use serde_json::json;
use spiffe::Timestamp;

use super::{
    Command, Decision, Moment, Refusal,
    applied::{Applied, check_text, deleted, refused},
    task::Turns,
};
use crate::{
    index::Holder,
    objects::{Key, Reason, Tenant, TenantName},
    registry::Registry,
    scope::Category,
};

/// Makes a tenant what a declaration asks for. Whether it is disabled stays as it is.
#[derive(Clone, Debug)]
pub struct UpsertTenant {
    /// Its name.
    pub name: TenantName,
    /// The categories of its data.
    pub categories: BTreeSet<Category>,
}

/// Forgets a tenant that owns nothing any more.
#[derive(Clone, Debug)]
pub struct DeleteTenant {
    /// Which.
    pub name: TenantName,
}

/// The kill switch: all tasks of a tenant end, and none begins.
#[derive(Clone, Debug)]
pub struct DisableTenant {
    /// Which.
    pub name: TenantName,
    /// Why, for people.
    pub why: String,
}

/// Takes the kill switch back. What ended stays ended.
#[derive(Clone, Debug)]
pub struct EnableTenant {
    /// Which.
    pub name: TenantName,
}

impl Registry {
    /// The tenant, where it is there.
    pub(super) fn known_tenant(&self, name: &TenantName) -> Result<&Tenant, Refusal> {
        let tenant = self.tenant(name).map(|tenant| &*tenant.value);
        tenant.ok_or_else(|| Refusal::NotFound(format!("there is no tenant {name}; declare it first")))
    }
}

impl Command for UpsertTenant {
    type Answer = Result<Applied, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Self { name, categories } = self;
        let key = Key::Tenant(name.clone());
        let Some(current) = registry.tenant(&name) else {
            let tenant = Tenant { name, categories, disabled: None, created_at: moment.now };
            return registry.applied(APPLY, tenant, Vec::new(), Default::default());
        };
        if current.categories == categories {
            return Applied::unchanged(key, Vec::new());
        }
        let lost = current.categories.difference(&categories).find_map(|lost| {
            let mut resources = registry.resources().filter(|resource| resource.tenant == name);
            resources.find(|resource| resource.names_category(lost)).map(|resource| (lost, &resource.name))
        });
        if let Some((category, resource)) = lost {
            let why =
                format!("the resource {resource} still has the category {category}; take it out there first");
            return refused(APPLY, &key, Refusal::Precondition(why));
        }
        registry.applied(
            APPLY,
            Tenant { categories, ..Tenant::clone(current) },
            Vec::new(),
            Default::default(),
        )
    }
}

impl Command for DeleteTenant {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, _: &Moment) -> Decision<Self::Answer> {
        let key = Key::Tenant(self.name.clone());
        if let Err(why) = registry.known_tenant(&self.name) {
            return refused(DELETE, &key, why);
        }
        let mut owned = registry.index.of_tenant(&self.name);
        if let Some(owned) = owned.find(|key| !matches!(key, Key::Task(_))) {
            let why = format!("the tenant {} still owns {owned}; delete that first", self.name);
            return refused(DELETE, &key, Refusal::Precondition(why));
        }
        deleted(DELETE, key, Default::default())
    }
}

impl Command for DisableTenant {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let checked = check_text("the reason", &self.why, MAX_REASON);
        let tenant = match checked.and_then(|()| registry.known_tenant(&self.name)) {
            Ok(tenant) => tenant,
            Err(why) => return refused(DISABLE, &Key::Tenant(self.name), why),
        };
        let mut turns = Turns::new(registry, moment.now);
        turns.end_held_by(&Holder::Tenant(self.name.clone()), Reason::TenantDisabled);
        let disabled = Tenant { disabled: Some(self.why.clone()), ..tenant.clone() };
        switched(registry, DISABLE, disabled, turns, moment.now)
    }
}

impl Command for EnableTenant {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        match registry.known_tenant(&self.name) {
            Err(why) => refused(ENABLE, &Key::Tenant(self.name), why),
            Ok(tenant) if tenant.disabled.is_none() => Decision::unchanged(()),
            Ok(tenant) => {
                let enabled = Tenant { disabled: None, ..tenant.clone() };
                switched(registry, ENABLE, enabled, Turns::new(registry, moment.now), moment.now)
            }
        }
    }
}

fn switched(
    registry: &Registry,
    kind: &'static str,
    tenant: Tenant,
    turns: Turns<'_>,
    at: Timestamp,
) -> Decision<Result<(), Refusal>> {
    let (mut changes, tasks) = turns.done();
    let facts = json!({ "tenant": tenant.name, "why": tenant.disabled, "tasks": tasks, "at": at });
    changes.insert(0, registry.put_change(tenant));
    Decision::done(kind, facts, changes, ())
}

/// The longest reason that an administrator gives, in bytes.
pub(super) const MAX_REASON: usize = 512;

const APPLY: &str = "tenant.apply";
const DELETE: &str = "tenant.delete";
const DISABLE: &str = "tenant.disable";
const ENABLE: &str = "tenant.enable";
