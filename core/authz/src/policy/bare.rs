//! Cedar's bare result, through the same slices as every decision.

use std::str::FromStr;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid,
    PolicyId, PolicySet, Request, Schema,
};

use super::{Lineage, Slices};

/// What Cedar says, before Writ makes a decision of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bare {
    /// Whether it allows.
    pub allow: bool,
    /// The policies that decided, sorted.
    pub reasons: Vec<String>,
    /// The policies that erred, sorted.
    pub errors: Vec<String>,
}

/// A request, as text in Cedar's own forms.
#[derive(Clone, Copy, Debug)]
pub struct BareInput<'a> {
    /// Policies; unnamed ones are `policy0`, `policy1` and so on.
    pub policies: &'a str,
    /// A schema that entities, context and request must follow.
    pub schema: Option<&'a str>,
    /// Cedar's JSON array of entities.
    pub entities: &'a str,
    /// Type and id.
    pub principal: (&'a str, &'a str),
    /// Type and id.
    pub action: (&'a str, &'a str),
    /// Type and id.
    pub resource: (&'a str, &'a str),
    /// A JSON object.
    pub context: &'a str,
}

/// Evaluates a request. An input that cannot be read is an error, one sentence.
pub fn authorize(input: &BareInput<'_>) -> Result<Bare, String> {
    let schema = input
        .schema
        .map(Schema::from_cedarschema_str)
        .transpose()
        .map_err(|error| format!("the schema: {error}"))?;
    let schema = schema.map(|(schema, _)| schema);
    let policies = PolicySet::from_str(input.policies).map_err(|error| format!("the policies: {error}"))?;
    let entities = Entities::from_json_str(input.entities, schema.as_ref())
        .map_err(|error| format!("the entities: {error}"))?;
    let [principal, action, resource] = [input.principal, input.action, input.resource].map(uid);
    let (principal, action, resource) = (principal?, action?, resource?);
    let of_action = schema.as_ref().map(|schema| (schema, &action));
    let context =
        Context::from_json_str(input.context, of_action).map_err(|error| format!("the context: {error}"))?;
    let request = Request::new(principal.clone(), action.clone(), resource.clone(), context, schema.as_ref())
        .map_err(|error| format!("the request: {error}"))?;
    let slices = Slices::of(policies.policies().cloned().collect());
    Ok(decide(&slices, &request, &entities, [principal, action, resource]))
}

pub(super) fn decide(slices: &Slices, request: &Request, entities: &Entities, about: [EntityUid; 3]) -> Bare {
    let [principal, action, resource] = about.map(|uid| {
        let ancestors = entities.ancestors(&uid).into_iter().flatten().cloned().collect();
        Lineage { uid, ancestors }
    });
    let set = slices.slice(&principal, &action, &resource);
    let response = Authorizer::new().is_authorized(request, &set, entities);
    let sorted = |ids: &mut dyn Iterator<Item = &PolicyId>| {
        let mut ids: Vec<String> = ids.map(ToString::to_string).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    Bare {
        allow: response.decision() == Decision::Allow,
        reasons: sorted(&mut response.diagnostics().reason()),
        errors: sorted(
            &mut response
                .diagnostics()
                .errors()
                .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id()),
        ),
    }
}

fn uid((kind, id): (&str, &str)) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str(kind).map_err(|error| format!("the type {kind:?}: {error}"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}
