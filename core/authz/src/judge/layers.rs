//! The policies: three layers, each apart, for the task and for every task above it.

use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, PolicyId, Request, Response,
};
use registry::objects::Layer;

use crate::{
    chain::Member,
    denial::{Code, Denial},
    facts::{self, Known, Moment},
    policy::Slice,
    world::{Callable, Guarded, World},
};

/// The policies that permit it; otherwise why not, and whether somebody's approval would help.
pub(super) fn permit(
    world: &World,
    line: &[&Member],
    guarded: &Guarded,
    tool: &Callable,
    moment: &Moment<'_>,
) -> Result<Vec<Arc<str>>, Denial> {
    let line: Vec<_> = line.iter().map(|member| Sliced::of(member, world, guarded, tool)).collect();
    let wanted = |name: &str| line.iter().any(|sliced| sliced.mentions(name));
    let arguments = wanted(facts::ARGUMENTS).then(|| facts::arguments(moment.call.arguments()));
    let asked = Asked { world, guarded, tool, arguments };
    let context = facts::context(moment, wanted, None);
    let mut permitting: Vec<Arc<str>> = Vec::new();
    for sliced in &line {
        match asked.of(sliced, context.clone()) {
            Ok(policies) => permitting.extend(policies),
            Err(denial) if denial.code == Code::PolicyDenied => {
                let approved = facts::context(moment, wanted, Some(NOBODY));
                let requestable = line.iter().all(|sliced| match asked.of(sliced, approved.clone()) {
                    Ok(_) => true,
                    // An approval lifts a missing permit, never a forbid and never an error.
                    Err(denial) => denial.code == Code::PolicyDenied && denial.policies.is_empty(),
                });
                return Err(Denial { requestable, ..denial });
            }
            Err(denial) => return Err(denial),
        }
    }
    permitting.sort_unstable();
    permitting.dedup();
    Ok(permitting)
}

/// Who approves where it is only asked whether an approval would help.
const NOBODY: &str = "nobody";

/// One task of the line with the policies that could apply to it, layer by layer.
struct Sliced<'a> {
    member: &'a Member,
    platform: Slicing,
    actor: Slicing,
    owner: Slicing,
}

/// A layer's policies; none where it has none at all, an error where it cannot be used.
type Slicing = Result<Option<Arc<Slice>>, Denial>;

impl<'a> Sliced<'a> {
    fn of(member: &'a Member, world: &World, guarded: &Guarded, tool: &Callable) -> Self {
        let slice = |layer: Layer| {
            let Some(compiled) = world.policies().layer(&layer) else {
                // Not even the platform's defaults: nothing was compiled yet.
                return match layer {
                    Layer::Platform => Err(Denial::new(Code::PolicyError, "no policies were compiled yet")),
                    Layer::Actor(_) | Layer::Resource(_) => Ok(None),
                };
            };
            if let Some(fault) = compiled.faults.first() {
                let why = format!("the layer {layer} cannot be used until it is mended: {fault}");
                return Err(Denial::new(Code::PolicyError, why));
            }
            let lineages = [member.known(), &tool.action, &tool.known].map(|known| &known.lineage);
            let [principal, action, resource] = lineages;
            Ok(Some(compiled.slices.slice(principal, action, resource)))
        };
        Self {
            member,
            platform: slice(Layer::Platform),
            actor: slice(Layer::Actor(member.grant().tenant.clone())),
            owner: slice(Layer::Resource(guarded.resource.tenant.clone())),
        }
    }

    /// Whether one of them could look at this fact.
    fn mentions(&self, fact: &str) -> bool {
        let slices = [&self.platform, &self.actor, &self.owner];
        slices.into_iter().flatten().flatten().any(|slice| slice.mentions.include(fact))
    }
}

/// One call, without the task that makes it.
struct Asked<'a> {
    world: &'a World,
    guarded: &'a Guarded,
    tool: &'a Callable,
    /// Where a policy could look at them.
    arguments: Option<[cedar_policy::Entity; 3]>,
}

impl Asked<'_> {
    /// Whether all three layers let one task of the line do it.
    fn of(&self, sliced: &Sliced<'_>, context: Context) -> Result<Vec<Arc<str>>, Denial> {
        let (member, grant) = (sliced.member, sliced.member.grant());
        let owner = &self.guarded.resource.tenant;
        let entities = self.entities(member)?;
        let uid = |known: &Known| known.lineage.uid.clone();
        let [principal, action, resource] = [member.known(), &self.tool.action, &self.tool.known].map(uid);
        let request = Request::new(principal, action, resource, context, None)
            .map_err(|error| Denial::new(Code::PolicyError, error.to_string()))?;

        let platform = evaluate(&Layer::Platform, &sliced.platform, &request, &entities)?;
        if let Some(forbidden) = platform.filter(has_reasons) {
            return Err(denied(
                &forbidden,
                format!("a policy of the platform forbids it to task {}", grant.id),
            ));
        }
        let mut permitting = Vec::new();
        for (layer, slicing) in [
            (Layer::Actor(grant.tenant.clone()), &sliced.actor),
            (Layer::Resource(owner.clone()), &sliced.owner),
        ] {
            let whose = || match &layer {
                Layer::Resource(owner) => format!("the resource's owner {owner}"),
                Layer::Actor(tenant) => format!("the actor's tenant {tenant}"),
                Layer::Platform => "the platform".to_owned(),
            };
            match evaluate(&layer, slicing, &request, &entities)? {
                None => {
                    let why = format!(
                        "{} has no policies ({layer}), and without a permit nothing is allowed",
                        whose()
                    );
                    return Err(Denial::new(Code::PolicyDenied, why));
                }
                Some(response) if response.decision() == Decision::Allow => {
                    permitting.extend(reasons(&response))
                }
                Some(response) if has_reasons(&response) => {
                    let why = format!("a policy of {} forbids it to task {}", whose(), grant.id);
                    return Err(denied(&response, why));
                }
                Some(response) => {
                    let why = format!("no policy of {} permits it to task {}", whose(), grant.id);
                    return Err(denied(&response, why));
                }
            }
        }
        Ok(permitting)
    }

    fn entities(&self, member: &Member) -> Result<Entities, Denial> {
        let grant = member.grant();
        let mut entities = vec![member.known().entity.clone()];
        entities.extend(self.arguments.iter().flatten().cloned());
        entities.extend(self.world.actor(&grant.actor).map(|(_, known)| known.entity.clone()));
        if self.guarded.resource.tenant != grant.tenant {
            entities.extend(self.world.tenant(&grant.tenant).map(|(_, known)| known.entity.clone()));
        }
        let around = self.guarded.entities(self.tool);
        around.add_entities(entities, None).map_err(|error| Denial::new(Code::PolicyError, error.to_string()))
    }
}

/// What one layer says; `None` where it has no policies at all. Any error in it denies.
fn evaluate(
    layer: &Layer,
    slicing: &Slicing,
    request: &Request,
    entities: &Entities,
) -> Result<Option<Response>, Denial> {
    let Some(slice) = slicing.clone()? else { return Ok(None) };
    let response = Authorizer::new().is_authorized(request, &slice.policies, entities);
    let failed: Vec<_> = response.diagnostics().errors().map(failure).collect();
    match failed.split_first() {
        None => Ok(Some(response)),
        Some(((_, first), _)) => Err(Denial {
            policies: failed.iter().map(|(id, _)| Arc::clone(id)).collect(),
            ..Denial::new(Code::PolicyError, format!("a policy of {layer} failed: {first}"))
        }),
    }
}

fn denied(response: &Response, why: String) -> Denial {
    Denial { policies: reasons(response).collect(), ..Denial::new(Code::PolicyDenied, why) }
}

fn has_reasons(response: &Response) -> bool {
    response.diagnostics().reason().next().is_some()
}

fn reasons(response: &Response) -> impl Iterator<Item = Arc<str>> {
    response.diagnostics().reason().map(named)
}

fn named(id: &PolicyId) -> Arc<str> {
    let id: &str = id.as_ref();
    id.into()
}

fn failure(error: &AuthorizationError) -> (Arc<str>, String) {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    (named(error.policy_id()), error.to_string())
}
