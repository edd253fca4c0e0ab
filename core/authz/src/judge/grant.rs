//! What was granted, by set algebra alone: no policy language can widen it.

use registry::scope::ToolName;

use crate::{
    call::ToolCall,
    chain::Member,
    denial::{Code, Denial},
};

/// Whether a task's scope has a rule about a tool.
pub(super) fn names(member: &Member, tool: &ToolName) -> Result<(), Denial> {
    let grant = member.grant();
    match grant.scope.about(tool).next() {
        Some(_) => Ok(()),
        None => {
            let why = format!(
                "the scope of task {} (mandate {}) has no rule about {tool}",
                grant.id, grant.mandate
            );
            Err(Denial::new(Code::OutOfScope, why))
        }
    }
}

/// Whether one of the scope's rules allows the call with these arguments.
pub(super) fn allows(member: &Member, call: &ToolCall) -> Result<(), Denial> {
    names(member, call.tool())?;
    let grant = member.grant();
    let arguments: Vec<_> =
        call.arguments().iter().map(|(name, argument)| (name, argument.values())).collect();
    let mut wrong = None;
    for rule in grant.scope.about(call.tool()) {
        let missing = rule.required().find(|name| call.arguments().get(name).is_none());
        let bad = arguments.iter().find(|(name, values)| !rule.allows(name, values)).map(|(name, _)| *name);
        match missing.or(bad) {
            None => return Ok(()),
            Some(name) => wrong = Some(name.clone()),
        }
    }
    let name = wrong.map(|name| name.to_string()).unwrap_or_default();
    let why = format!(
        "the scope of task {} has {}, with another value of the argument {name:?}",
        grant.id,
        call.tool()
    );
    Err(Denial::new(Code::ArgumentOutOfScope, why))
}
