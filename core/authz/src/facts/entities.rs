//! Entities of the schema. Each is made once, when its object changes, and shared by every decision.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
    sync::LazyLock,
};

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use registry::{
    objects::{self, Beginner, TenantName},
    scope::{Effect, Label, Scalar, ToolName},
};

use crate::{
    call::{Argument, Arguments},
    policy::Lineage,
};

/// An entity with what it is in.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) entity: Entity,
    pub(crate) lineage: Lineage,
}

pub(crate) fn tenant(name: &TenantName) -> Known {
    known("Tenant", name.as_str(), [], [], Vec::new())
}

pub(crate) fn actor(actor: &objects::Actor) -> Known {
    let tenant = uid("Tenant", actor.tenant.as_str());
    let attributes = [
        ("tenant", entity(&tenant)),
        ("owner", text(&actor.owner)),
        ("autonomy", number(i64::from(u8::from(actor.autonomy)))),
    ];
    known("Actor", actor.id.as_str(), attributes, [], vec![tenant])
}

pub(crate) fn task(task: &objects::Task) -> Known {
    let (actor, tenant) = (uid("Actor", task.actor.as_str()), uid("Tenant", task.tenant.as_str()));
    let begun_by = match task.beginner {
        Beginner::Itself => "itself",
        Beginner::Workload(_) => "workload",
        Beginner::Parent(_) => "parent",
    };
    let attributes = [
        ("actor", entity(&actor)),
        ("tenant", entity(&tenant)),
        ("mandate", text(task.mandate.as_str())),
        ("mandate_version", number(i64::try_from(task.mandate_version).unwrap_or(i64::MAX))),
        ("purpose", text(task.purpose.as_str())),
        ("begun_by", text(begun_by)),
        ("tier", number(i64::from(u8::from(task.tier)))),
        ("data_max", number(i64::from(u8::from(task.data_max)))),
        ("depth", number(i64::from(task.depth))),
    ];
    let params = task.params.iter().map(|(name, value)| (name.as_str().to_owned(), text(&spoken(value))));
    known("Task", task.id.as_str(), attributes, params, vec![actor, tenant])
}

pub(crate) fn resource(resource: &objects::Resource) -> Known {
    let tenant = uid("Tenant", resource.tenant.as_str());
    let attributes =
        [("tenant", entity(&tenant)), ("stateful", RestrictedExpression::new_bool(resource.stateful))];
    known("Resource", resource.name.as_str(), attributes, [], vec![tenant])
}

pub(crate) fn tool(name: &ToolName, tool: &objects::Tool, of: &objects::Resource) -> Known {
    let (resource, tenant) = (uid("Resource", of.name.as_str()), uid("Tenant", of.tenant.as_str()));
    let clearance = tool.clearance.as_ref().unwrap_or(&of.clearance);
    let attributes = [
        ("name", text(name.tool())),
        ("resource", entity(&resource)),
        ("tenant", entity(&tenant)),
        ("effect", text(tool.effect.as_str())),
        ("tier", number(i64::from(u8::from(tool.tier())))),
        ("pinned", RestrictedExpression::new_bool(tool.definition_sha256.is_some())),
        ("label", label(&tool.label.join(&of.label))),
        ("clearance", number(i64::from(u8::from(clearance.confidentiality)))),
    ];
    known("Tool", name.as_str(), attributes, [], vec![resource, tenant])
}

/// The action of a call, with the groups that it is in.
pub(crate) fn action(effect: Effect) -> Known {
    let groups: &[&str] = if effect == Effect::Read { &["tools/call"] } else { &["change", "tools/call"] };
    known("Action", effect.as_str(), [], [], groups.iter().map(|group| uid("Action", group)).collect())
}

/// The three entities whose tags are a call's arguments.
pub(crate) fn arguments(arguments: &Arguments) -> [Entity; 3] {
    let (mut texts, mut numbers, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    for (name, argument) in arguments.iter() {
        let name = name.as_str();
        match argument {
            Argument::Plain(value) => {
                texts.push((name.to_owned(), text(&spoken(value))));
                if let Scalar::Int(value) = value {
                    numbers.push((name.to_owned(), number(*value)));
                }
            }
            Argument::List(items) => {
                if let Some(items) = items.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() {
                    let items = items.into_iter().map(|item| text(&spoken(item)));
                    lists.push((name.to_owned(), RestrictedExpression::new_set(items)));
                }
            }
            Argument::Other => {}
        }
    }
    [("TextArguments", texts), ("NumberArguments", numbers), ("ListArguments", lists)]
        .map(|(kind, tags)| made(uid(kind, THIS_CALL), [], tags, Vec::new()))
}

/// The id of what stands for the arguments of the call that is judged.
pub(super) const THIS_CALL: &str = "this call";

pub(super) fn uid(kind: &'static str, id: &str) -> EntityUid {
    let kind = KINDS.get(kind).cloned().expect("every kind that is asked for is in the table");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

static KINDS: LazyLock<HashMap<&'static str, EntityTypeName>> = LazyLock::new(|| {
    let kinds = [
        "Tenant",
        "Actor",
        "Task",
        "Resource",
        "Tool",
        "Action",
        "TextArguments",
        "NumberArguments",
        "ListArguments",
    ];
    let named =
        |kind| (kind, EntityTypeName::from_str(&format!("Writ::{kind}")).expect("a type of the schema"));
    kinds.into_iter().map(named).collect()
});

fn known<const N: usize>(
    kind: &'static str,
    id: &str,
    attributes: [(&str, RestrictedExpression); N],
    tags: impl IntoIterator<Item = (String, RestrictedExpression)>,
    ancestors: Vec<EntityUid>,
) -> Known {
    let uid = uid(kind, id);
    let entity = made(uid.clone(), attributes, tags, ancestors.clone());
    Known { entity, lineage: Lineage { uid, ancestors } }
}

fn made<const N: usize>(
    uid: EntityUid,
    attributes: [(&str, RestrictedExpression); N],
    tags: impl IntoIterator<Item = (String, RestrictedExpression)>,
    parents: Vec<EntityUid>,
) -> Entity {
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
    let parents: HashSet<_> = parents.into_iter().collect();
    // INVARIANT: only texts, numbers, booleans, sets, records and entities are used; evaluating those cannot fail.
    Entity::new_with_tags(uid, attributes, parents, tags).expect("plain values evaluate to themselves")
}

pub(super) fn label(label: &Label) -> RestrictedExpression {
    let categories = label.categories.iter().map(|category| text(category.as_str()));
    let sources = label.sources.iter().map(|source| text(source.as_str()));
    record([
        ("confidentiality", number(i64::from(u8::from(label.confidentiality)))),
        ("categories", RestrictedExpression::new_set(categories)),
        ("sources", RestrictedExpression::new_set(sources)),
    ])
}

pub(super) fn record<const N: usize>(members: [(&str, RestrictedExpression); N]) -> RestrictedExpression {
    let members = members.map(|(name, value)| (name.to_owned(), value));
    RestrictedExpression::new_record(members).expect("a record's members have different names")
}

pub(super) fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

pub(super) fn number(number: i64) -> RestrictedExpression {
    RestrictedExpression::new_long(number)
}

pub(super) fn entity(uid: &EntityUid) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(uid.clone())
}

/// A plain value as JSON writes it, a text without its quotes.
pub(super) fn spoken(value: &Scalar) -> String {
    match value {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Int(value) => value.to_string(),
        Scalar::Text(text) => text.clone(),
    }
}
