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
    policy::Policies,
    world::{Guarded, World},
};

/// The policies that permit it; otherwise why not, and whether somebody's approval would help.
pub(super) fn permit(
    world: &World,
    line: &[&Member],
    guarded: &Guarded,
    tool: &Known,
    moment: &Moment<'_>,
) -> Result<Vec<Arc<str>>, Denial> {
    let asked = Asked {
        world,
        guarded,
        tool,
        action: facts::action(moment.effect),
        arguments: facts::arguments(moment.call.arguments()),
    };
    let context = facts::context(moment, None);
    let mut permitting: Vec<Arc<str>> = Vec::new();
    for member in line {
        match asked.of(member, context.clone()) {
            Ok(policies) => permitting.extend(policies),
            Err(denial) if denial.code == Code::PolicyDenied => {
                let approved = facts::context(moment, Some(NOBODY));
                let requestable = line.iter().all(|member| match asked.of(member, approved.clone()) {
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

/// One call, without the task that makes it.
struct Asked<'a> {
    world: &'a World,
    guarded: &'a Guarded,
    tool: &'a Known,
    action: Known,
    arguments: [cedar_policy::Entity; 3],
}

impl Asked<'_> {
    /// Whether all three layers let one task of the line do it.
    fn of(&self, member: &Member, context: Context) -> Result<Vec<Arc<str>>, Denial> {
        let grant = member.grant();
        let owner = &self.guarded.resource.tenant;
        let entities = self.entities(member)?;
        let uid = |known: &Known| known.lineage.uid.clone();
        let [principal, action, resource] = [member.known(), &self.action, self.tool].map(uid);
        let request = Request::new(principal, action, resource, context, None)
            .map_err(|error| Denial::new(Code::PolicyError, error.to_string()))?;
        let evaluate = |layer: &Layer| self.evaluate(layer, member, &request, &entities);

        if let Some(forbidden) = evaluate(&Layer::Platform)?.filter(has_reasons) {
            return Err(denied(
                &forbidden,
                format!("a policy of the platform forbids it to task {}", grant.id),
            ));
        }
        let mut permitting = Vec::new();
        for (layer, whose) in [
            (Layer::Actor(grant.tenant.clone()), format!("the actor's tenant {}", grant.tenant)),
            (Layer::Resource(owner.clone()), format!("the resource's owner {owner}")),
        ] {
            match evaluate(&layer)? {
                None => {
                    let why =
                        format!("{whose} has no policies ({layer}), and without a permit nothing is allowed");
                    return Err(Denial::new(Code::PolicyDenied, why));
                }
                Some(response) if response.decision() == Decision::Allow => {
                    permitting.extend(reasons(&response))
                }
                Some(response) if has_reasons(&response) => {
                    return Err(denied(
                        &response,
                        format!("a policy of {whose} forbids it to task {}", grant.id),
                    ));
                }
                Some(response) => {
                    return Err(denied(
                        &response,
                        format!("no policy of {whose} permits it to task {}", grant.id),
                    ));
                }
            }
        }
        Ok(permitting)
    }

    /// What one layer says; `None` where it has no policies at all. Any error in it denies.
    fn evaluate(
        &self,
        layer: &Layer,
        member: &Member,
        request: &Request,
        entities: &Entities,
    ) -> Result<Option<Response>, Denial> {
        let policies: &Policies = self.world.policies();
        let Some(compiled) = policies.layer(layer) else {
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
        let slice = compiled.slices.slice(&member.known().lineage, &self.action.lineage, &self.tool.lineage);
        let response = Authorizer::new().is_authorized(request, &slice, entities);
        let failed: Vec<_> = response.diagnostics().errors().map(failure).collect();
        match failed.split_first() {
            None => Ok(Some(response)),
            Some(((_, first), _)) => Err(Denial {
                policies: failed.iter().map(|(id, _)| Arc::clone(id)).collect(),
                ..Denial::new(Code::PolicyError, format!("a policy of {layer} failed: {first}"))
            }),
        }
    }

    fn entities(&self, member: &Member) -> Result<Entities, Denial> {
        let grant = member.grant();
        let tenant = |name| self.world.tenant(name).map(|(_, known)| known.entity.clone());
        let mut entities = vec![
            member.known().entity.clone(),
            self.tool.entity.clone(),
            self.guarded.known.entity.clone(),
            self.action.entity.clone(),
        ];
        entities.extend(self.arguments.iter().cloned());
        entities.extend(self.world.actor(&grant.actor).map(|(_, known)| known.entity.clone()));
        entities.extend(tenant(&grant.tenant));
        if self.guarded.resource.tenant != grant.tenant {
            entities.extend(tenant(&self.guarded.resource.tenant));
        }
        Entities::from_entities(entities, None)
            .map_err(|error| Denial::new(Code::PolicyError, error.to_string()))
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
