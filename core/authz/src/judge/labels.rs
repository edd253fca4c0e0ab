//! What a task may still tell, after what it has read.

use registry::{
    objects::{Resource, Tool},
    scope::{Effect, Label},
};

use crate::{
    call::ToolCall,
    chain::Member,
    denial::{Code, Denial},
};

/// Whether what the task has read may go where the call goes. A read tells nothing but its arguments.
pub(super) fn may_flow(
    label: &Label,
    tool: &Tool,
    resource: &Resource,
    call: &ToolCall,
) -> Result<(), Denial> {
    let clearance = tool.clearance.as_ref().unwrap_or(&resource.clearance);
    if tool.effect == Effect::Read || label.may_flow_to(clearance) {
        return Ok(());
    }
    let (has, may) = (u8::from(label.confidentiality), u8::from(clearance.confidentiality));
    let foreign: Vec<_> =
        label.categories.difference(&clearance.categories).map(ToString::to_string).collect();
    let categories =
        if foreign.is_empty() { String::new() } else { format!(" and of {}", foreign.join(", ")) };
    let why = format!(
        "the task has read data of confidentiality {has}{categories}, and {} may be told at most {may} of its own \
         categories",
        call.tool()
    );
    Err(Denial::new(Code::LabelExceedsClearance, why))
}

/// Whether, after untrusted input, every argument that decides where the effect goes is one that an operator
/// chose: the scope constrains it to a value, to a parameter or to a set.
pub(super) fn is_bound(label: &Label, member: &Member, tool: &Tool, call: &ToolCall) -> Result<(), Denial> {
    if tool.effect == Effect::Read || !label.is_tainted() {
        return Ok(());
    }
    let free = tool.control_args.iter().filter(|name| call.arguments().get(name).is_some()).find(|name| {
        // Any rule that allows the whole call will do, so one that binds the argument must be among them.
        let allowing = member.grant().scope.about(call.tool()).filter(|rule| {
            rule.required().all(|name| call.arguments().get(name).is_some())
                && call.arguments().iter().all(|(name, argument)| rule.allows(name, &argument.values()))
        });
        !allowing.into_iter().any(|rule| rule.binds(name))
    });
    let Some(name) = free else { return Ok(()) };
    let sources: Vec<_> = label.sources.iter().map(ToString::to_string).collect();
    let why = format!(
        "the task has read from {}, and the argument {name:?} of {} is its own choice; bind it to a parameter of the \
         mandate, or have the call approved",
        sources.join(", "),
        call.tool(),
        name = name.as_str()
    );
    Err(Denial::new(Code::UnboundArgumentAfterUntrustedInput, why))
}
