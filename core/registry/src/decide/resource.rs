//! Resources: what calls go to, as their owners declare it.

use std::collections::BTreeSet;

use super::{
    Command, Decision, Moment, Refusal,
    applied::{Applied, deleted, refused},
    entry::check_workload_id,
};
use crate::{
    objects::{Declassification, Key, Owners, Resource, Tenant},
    registry::Registry,
    scope::{Category, ResourceName, ToolName},
};

/// Makes a resource what a declaration asks for.
#[derive(Clone, Debug)]
pub struct UpsertResource {
    /// What is asked for; `created_at` is the registry's own.
    pub resource: Resource,
}

/// Forgets a resource: nothing of it can be called any more.
#[derive(Clone, Debug)]
pub struct DeleteResource {
    /// Which.
    pub name: ResourceName,
}

const MAX_POINTS: usize = 64;

impl Resource {
    /// All categories that it names.
    fn categories(&self) -> BTreeSet<&Category> {
        let clearances = self.tools.values().filter_map(|tool| tool.clearance.as_ref());
        let cleared = clearances.chain([&self.clearance]).flat_map(|clearance| &clearance.categories);
        let dropped = self.tools.values().filter_map(|tool| tool.declassifies.as_ref());
        let dropped = dropped.flat_map(|dropped| &dropped.categories);
        self.labels().flat_map(|label| &label.categories).chain(cleared).chain(dropped).collect()
    }

    pub(super) fn names_category(&self, category: &Category) -> bool {
        self.categories().contains(category)
    }
}

impl Command for UpsertResource {
    type Answer = Result<Applied, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let current = registry.resource(&self.resource.name).map(|resource| &*resource.value);
        let created_at = current.map_or(moment.now, |resource| resource.created_at);
        let wanted = Resource { created_at, ..self.resource };
        let key = Key::Resource(wanted.name.clone());
        let warnings = warnings(&wanted, registry);
        if current == Some(&wanted) {
            return Applied::unchanged(key, warnings);
        }
        let tenant = registry.known_tenant(&wanted.tenant);
        match tenant.and_then(|tenant| check(&wanted, current, tenant, registry)) {
            Ok(()) => registry.applied("resource.apply", wanted, warnings, Default::default()),
            Err(why) => refused("resource.apply", &key, why),
        }
    }
}

fn check(
    wanted: &Resource,
    current: Option<&Resource>,
    tenant: &Tenant,
    registry: &Registry,
) -> Result<(), Refusal> {
    let name = &wanted.name;
    let invalid = |why: String| Err(Refusal::Invalid(format!("resource {name}: {why}")));
    if let Some(current) = current.filter(|current| current.tenant != wanted.tenant) {
        let why = format!("the resource {name} belongs to the tenant {}, for ever", current.tenant);
        return Err(Refusal::Precondition(why));
    }
    if wanted.enforcement_points.len() > MAX_POINTS {
        return invalid(format!("at most {MAX_POINTS} enforcement points are allowed"));
    }
    wanted.enforcement_points.iter().try_for_each(|id| check_workload_id(id, registry))?;
    if let Some(tool) = wanted.tools.keys().find(|tool| format!("{name}/{tool}").parse::<ToolName>().is_err())
    {
        return invalid(format!("{tool:?} cannot be the name of a tool: letters, digits and any of -._/:"));
    }
    match wanted.categories().into_iter().find(|category| !tenant.categories.contains(*category)) {
        Some(other) => invalid(format!(
            "{other} is not a category of the tenant {}; declare it there first",
            tenant.name
        )),
        None => check_declassifications(wanted, registry),
    }
}

/// A transformer is one tool as it was approved, and drops only what is its owner's alone.
fn check_declassifications(wanted: &Resource, registry: &Registry) -> Result<(), Refusal> {
    let name = &wanted.name;
    let owners = owners(wanted, registry);
    for (tool, declared) in &wanted.tools {
        let Some(drop) = &declared.declassifies else { continue };
        let why = if drop.is_nothing() {
            "drops nothing; leave `declassifies` out".to_owned()
        } else if declared.definition_sha256.is_none() {
            "declassifies whatever the upstream makes of it; pin its definition_sha256".to_owned()
        } else if let Some(step) = drop.confidentiality.filter(|step| step.from <= step.to) {
            let (from, to) = (u8::from(step.from), u8::from(step.to));
            format!("lowers confidentiality from {from} to {to}, which is not lower")
        } else if let Some(why) = not_owned(drop, &owners) {
            why
        } else {
            continue;
        };
        return Err(Refusal::Invalid(format!("resource {name}: the tool {tool} {why}")));
    }
    Ok(())
}

fn not_owned(drop: &Declassification, owners: &Owners<'_>) -> Option<String> {
    let category = drop.categories.iter().find_map(|category| Some((category, owners.others(category)?)));
    if let Some((category, other)) = category {
        return Some(format!("drops the category {category}, which is the tenant {other}'s as well"));
    }
    let source = drop.sources.iter().find_map(|source| Some((source, owners.others_source(source)?)));
    if let Some((source, other)) = source {
        return Some(format!("drops the source {source}, of which the tenant {other} has data as well"));
    }
    let step = drop.confidentiality?;
    let (other, to) = (owners.others_above(step.to)?, u8::from(step.to));
    Some(format!("lowers confidentiality to {to}, and the tenant {other} has data that is above that"))
}

fn owners<'a>(wanted: &'a Resource, registry: &'a Registry) -> Owners<'a> {
    let others =
        registry.resources().map(|resource| &*resource.value).filter(|other| other.name != wanted.name);
    Owners::new(&wanted.tenant, registry.tenants().map(|tenant| &*tenant.value), others.chain([wanted]))
}

fn warnings(resource: &Resource, registry: &Registry) -> Vec<String> {
    let name = &resource.name;
    let unguarded = resource.enforcement_points.is_empty();
    let mut warnings: Vec<String> = unguarded
        .then(|| format!("the resource {name} has no enforcement point, so nobody may ask about it"))
        .into_iter()
        .collect();
    let lowered = resource.tools.iter().filter(|(_, tool)| tool.tier() < tool.effect.tier());
    warnings.extend(lowered.map(|(tool, lowered)| {
        let (tier, usual) = (u8::from(lowered.tier()), u8::from(lowered.effect.tier()));
        format!(
            "{name}/{tool} counts as tier {tier}; its effect {} is of tier {usual}",
            lowered.effect.as_str()
        )
    }));
    let owners = owners(resource, registry);
    for (tool, drop) in &resource.tools {
        let sources = drop.declassifies.iter().flat_map(|drop| &drop.sources);
        warnings.extend(sources.filter(|source| !owners.has_source(source)).map(|source| {
            format!(
                "{name}/{tool} will not drop the source {source}: nothing of the tenant {} is labelled with it",
                resource.tenant
            )
        }));
    }
    warnings
}

impl Command for DeleteResource {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, _: &Moment) -> Decision<Self::Answer> {
        let key = Key::Resource(self.name.clone());
        match registry.resource(&self.name) {
            Some(_) => deleted("resource.delete", key, Default::default()),
            None => {
                let why = format!("there is no resource {}", self.name);
                refused("resource.delete", &key, Refusal::NotFound(why))
            }
        }
    }
}
