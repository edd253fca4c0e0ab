//! The decision, in the order of the model: the first rule that fails denies, and every verdict is recorded.
//!
//! Parsing comes before ([`crate::ToolCall`]) and authenticating the caller to one task is the agent's; so are
//! the last steps, making the verdict durable and the permit ([`crate::permit`]).

mod grant;
mod labels;
mod layers;
mod lowered;
mod situation;
#[cfg(test)]
mod tests;

use registry::{
    objects::{Reason, Resource, Task, TaskId, Tool},
    scope::{Effect, Label, Tier},
};

pub use situation::{Freshness, Situation};

use crate::{
    call::ToolCall,
    chain::{Chain, Member},
    denial::{Code, Denial},
    facts::Moment,
    now::Now,
    verdict::{Decision, Lowered, Stored, Verdict},
    world::{Callable, Guarded, World},
};

/// Judges one call of a task. Budget is spent here, so of two calls that are judged one after the other the
/// second knows of the first; what a write leaves behind is named in the verdict and joined into the
/// resource before the call is forwarded.
pub fn judge(
    chain: &mut Chain,
    task: &TaskId,
    world: &World,
    situation: &Situation<'_>,
    call: &ToolCall,
    now: Now,
) -> Verdict {
    let mut about = About::default();
    let decided = decide(chain, task, world, situation, call, now, &mut about);
    let mut verdict = Verdict::of(chain, task, world, situation, call, about, decided);
    let line = chain.line(task);
    match &verdict.decision {
        Decision::Permit { .. } => {
            for id in &line {
                chain.member_mut(id).into_iter().for_each(|member| member.spend_action(verdict.effect));
            }
        }
        Decision::Deny(denial) if denial.code.is_probing() => {
            let spent = |id: &&TaskId| chain.member_mut(id).is_some_and(Member::spend_denial);
            // The highest task whose budget of denials is gone is suspended, and with it all below.
            let over: Vec<_> = line.iter().filter(spent).cloned().collect();
            verdict.suspended = over.last().map(|id| chain.suspend(id, Reason::Probing)).unwrap_or_default();
        }
        Decision::Deny(_) => {}
    }
    verdict
}

/// Whether a task could call a tool at all: it is in its scope, and defined as approved. Arguments, labels and
/// policies are looked at when it is called. A question: it decides, spends and records nothing.
pub fn visible(
    chain: &Chain,
    task: &TaskId,
    world: &World,
    situation: &Situation<'_>,
    call: &ToolCall,
    now: Now,
) -> bool {
    let check = || -> Result<(), Denial> {
        let (guarded, tool, _) = called(world, situation, call)?;
        situation.is_fresh(now, tool.tier())?;
        chain.may_act(task, now)?;
        let members: Vec<_> = chain.line(task).iter().filter_map(|id| chain.member(id)).collect();
        members.iter().try_for_each(|member| grant::names(member, call.tool()))?;
        pinned(tool, call, &guarded.resource)
    };
    check().is_ok()
}

/// How much a call of a task risks, for what must be asked before it is judged; `None` for a tool that is not known,
/// which is denied whatever is asked.
pub fn tier_of(task: &Task, world: &World, call: &ToolCall) -> Option<Tier> {
    let guarded = world.guarded(&call.tool().resource())?;
    let (tool, _) = guarded.tool(call.tool())?;
    Some(tier(task, tool, guarded.resource.tenant != task.tenant))
}

/// Whether nothing but the server's word is missing for a call: only then is it asked. A question, like [`visible`].
pub fn awaits_the_server(
    chain: &Chain,
    task: &TaskId,
    world: &World,
    situation: &Situation<'_>,
    call: &ToolCall,
    now: Now,
) -> bool {
    let heard = Situation { head: Some(now.boot), confirmed: true, ..*situation };
    let mut about = About::default();
    let granted = decide(chain, task, world, &heard, call, now, &mut about).is_ok();
    granted && about.tier == Some(Tier::T3)
}

/// What is known of a call once it is judged, also where it is denied half way.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) effect: Option<Effect>,
    pub(crate) tier: Option<Tier>,
    pub(crate) label: Label,
    pub(crate) result: Label,
}

fn decide(
    chain: &Chain,
    task: &TaskId,
    world: &World,
    situation: &Situation<'_>,
    call: &ToolCall,
    now: Now,
    about: &mut About,
) -> Result<Granted, Denial> {
    let line: Vec<&Member> = chain.line(task).iter().filter_map(|id| chain.member(id)).collect();
    let Some(own) = line.first() else {
        return Err(Denial::new(Code::NoTask, format!("there is no task {task} in chain {}", chain.id())));
    };
    about.label = own.label().join(situation.domain);
    let (guarded, tool, callable) = called(world, situation, call)?;
    let resource = &guarded.resource;
    let cross_tenant = resource.tenant != own.grant().tenant;
    let tier = tier(own.grant(), tool, cross_tenant);
    about.effect = Some(tool.effect);
    about.tier = Some(tier);
    let lowers = lowered::by(tool, resource, call, &about.label, world, situation).map(Box::new);
    let held = resource.label.join(situation.stored);
    about.result = tool.label.join(&lowered::lower(lowers.as_deref(), &held));

    situation.is_fresh(now, tier)?;
    line.iter().try_for_each(|member| member.may_act(now))?;
    parties(world, &line, resource, now)?;
    situation.is_as_granted(own.grant())?;
    for member in &line {
        grant::allows(member, call)?;
        member.may_handle(&about.result)?;
        member.can_afford()?;
    }
    pinned(tool, call, resource)?;
    labels::may_flow(&about.label, tool, resource, call)?;
    labels::is_bound(&about.label, own, tool, call)?;
    let root = line.last().map(|root| root.done()).unwrap_or_default();
    let moment = Moment {
        call,
        effect: tool.effect,
        tier,
        cross_tenant,
        label: &about.label,
        result: &about.result,
        situation,
        now,
        depth: own.grant().depth,
        done: &root,
    };
    let policies = layers::permit(world, &line, guarded, callable, &moment)?;
    situation.has_the_servers_word(tier)?;
    let stores = lowered::stores(tool, resource).then(|| Stored {
        resource: resource.name.clone(),
        label: lowered::lower(lowers.as_deref(), &about.label),
    });
    Ok(Granted { policies, stores, lowers })
}

/// What a permit is given with.
pub(crate) struct Granted {
    pub(crate) policies: Vec<std::sync::Arc<str>>,
    pub(crate) stores: Option<Stored>,
    pub(crate) lowers: Option<Box<Lowered>>,
}

/// The tool that is called, asked about by whoever guards it.
fn called<'w>(
    world: &'w World,
    situation: &Situation<'_>,
    call: &ToolCall,
) -> Result<(&'w Guarded, &'w Tool, &'w Callable), Denial> {
    let name = call.tool().resource();
    let guarded = world.guarded(&name);
    let guards = guarded
        .is_some_and(|guarded| guarded.resource.enforcement_points.contains(situation.enforcement_point));
    let (Some(guarded), true) = (guarded, guards) else {
        let why = format!("{} is not registered to guard {name}", situation.enforcement_point);
        return Err(Denial::new(Code::UnregisteredEnforcementPoint, why));
    };
    let Some((tool, callable)) = guarded.tool(call.tool()) else {
        let why =
            format!("the resource {name} has no tool {}; its owner may register it", call.tool().tool());
        return Err(Denial::new(Code::UnknownTool, why));
    };
    Ok((guarded, tool, callable))
}

/// The higher of the mandate's and the tool's tier; where nobody said, changing what is another tenant's is 3.
fn tier(own: &Task, tool: &Tool, cross_tenant: bool) -> Tier {
    let of_effect = if cross_tenant && tool.effect != Effect::Read { Tier::T3 } else { tool.effect.tier() };
    own.tier.max(tool.tier.unwrap_or(of_effect))
}

/// Nobody who takes part is switched off.
fn parties(world: &World, line: &[&Member], resource: &Resource, now: Now) -> Result<(), Denial> {
    let enabled = |name| match world.tenant(name) {
        None => {
            Err(Denial::new(Code::TenantDisabled, format!("there is no tenant {name} in this node's view")))
        }
        Some((tenant, _)) => tenant.disabled.as_ref().map_or(Ok(()), |why| {
            Err(Denial::new(Code::TenantDisabled, format!("the tenant {name} is disabled: {why}")))
        }),
    };
    enabled(&resource.tenant)?;
    for member in line {
        let grant = member.grant();
        enabled(&grant.tenant)?;
        let Some((actor, _)) = world.actor(&grant.actor) else {
            let why = format!("the actor {} is not in this node's view", grant.actor);
            return Err(Denial::new(Code::ActorDisabled, why));
        };
        if let Some(why) = &actor.disabled {
            return Err(Denial::new(
                Code::ActorDisabled,
                format!("the actor {} is disabled: {why}", actor.id),
            ));
        }
        if actor.review_at <= now.wall {
            let why = format!("the review of the actor {} is overdue since {}", actor.id, actor.review_at);
            return Err(Denial::new(Code::ReviewOverdue, why));
        }
    }
    Ok(())
}

/// The upstream shows the tool as its owner approved it.
fn pinned(tool: &Tool, call: &ToolCall, resource: &Resource) -> Result<(), Denial> {
    match (tool.definition_sha256, call.definition()) {
        (None, _) => Ok(()),
        (Some(approved), Some(shown)) if approved == shown => Ok(()),
        (Some(_), shown) => {
            let shown =
                shown.map_or_else(|| "no definition".to_owned(), |shown| format!("definition {shown}"));
            let why = format!(
                "the upstream shows {shown} of {}, which is not the one that {} approved",
                call.tool(),
                resource.tenant
            );
            Err(Denial::new(Code::ToolDefinitionChanged, why))
        }
    }
}
