//! What policies see: the schema's entities and its context, made from objects, tasks and calls.

mod context;
mod entities;
#[cfg(test)]
mod tests;

pub(crate) use context::{ARGUMENTS, Done, Moment, context};
pub(crate) use entities::{Known, action, actor, arguments, resource, task, tenant, tool};
