//! What an owner's transformer takes off the labels of data that passes through it.
//!
//! A task is never lowered: its memory keeps what it has read. What is lowered is what the transformer answers about its
//! resource, and what it leaves there.

use registry::{
    objects::{Resource, Tool},
    scope::{Effect, Label},
};

use super::Situation;
use crate::{call::ToolCall, verdict::Lowered, world::World};

/// What a call of this tool lowers, if it does: only as its definition was approved, and only what is its owner's.
pub(super) fn by(
    tool: &Tool,
    resource: &Resource,
    call: &ToolCall,
    label: &Label,
    world: &World,
    situation: &Situation<'_>,
) -> Option<Lowered> {
    let definition = tool.definition_sha256.filter(|approved| call.definition() == Some(*approved))?;
    let declared = tool.declassifies.as_ref()?;
    let held = resource.label.join(situation.stored);
    let from = if stores(tool, resource) { held.join(label) } else { held };
    let drop = declared.in_force(&from, &world.owners(&resource.tenant));
    let to = drop.lower(&from);
    (!drop.is_nothing()).then_some(Lowered { drop, definition, from, to })
}

/// Whether a call of this tool leaves something in its resource.
pub(super) fn stores(tool: &Tool, resource: &Resource) -> bool {
    tool.effect != Effect::Read && resource.stateful
}

/// A label with what is lowered, if anything is.
pub(super) fn lower(lowered: Option<&Lowered>, label: &Label) -> Label {
    lowered.map_or_else(|| label.clone(), |lowered| lowered.drop.lower(label))
}
