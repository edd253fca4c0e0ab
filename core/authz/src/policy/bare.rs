//! Cedar's bare result, through the same slices as every decision.

use std::{collections::BTreeMap, str::FromStr};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, Policy,
    PolicyId, PolicySet, Request, Response, Schema,
};

use super::{
    Lineage, Mentions, Slices,
    rule::LARGEST,
    split::{Size, check_size, split},
};

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
    /// Policies, known by their `@id`; one without is `policy0`, `policy1` and so on, by its place in the text.
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
    let read = Read::parse(input.policies, input.schema, input.entities)?;
    read.decide([input.principal, input.action, input.resource], input.context)
}

/// The largest schema.
const LARGEST_SCHEMA: Size = Size { bytes: 1024 * 1024, operators: usize::MAX, angles: true };

/// Policies and entities, read once for several requests.
pub(super) struct Read {
    #[cfg(test)]
    pub(super) policies: PolicySet,
    pub(super) entities: Entities,
    schema: Option<Schema>,
    slices: Slices,
}

impl Read {
    pub(super) fn parse(policies: &str, schema: Option<&str>, entities: &str) -> Result<Self, String> {
        split(policies).into_iter().try_for_each(|policy| check_size(policy, LARGEST))?;
        schema.map_or(Ok(()), |schema| check_size(schema, LARGEST_SCHEMA))?;
        let schema = schema.map(Schema::from_cedarschema_str).transpose();
        let schema = schema.map_err(|error| format!("the schema: {error}"))?.map(|(schema, _)| schema);
        let policies = PolicySet::from_str(policies).map_err(|error| format!("the policies: {error}"))?;
        let entities = Entities::from_json_str(entities, schema.as_ref());
        let entities = entities.map_err(|error| format!("the entities: {error}"))?;
        let mut named: BTreeMap<String, Policy> = BTreeMap::new();
        for policy in policies.policies() {
            let name = policy.annotation("id").map_or_else(|| policy.id().to_string(), str::to_owned);
            if named.insert(name.clone(), policy.new_id(PolicyId::new(&name))).is_some() {
                return Err(format!("the policies: two of them are called {name:?}"));
            }
        }
        // Whoever asks brings the whole context, so it does not matter what of it is mentioned.
        let slices = Slices::of(named.into_values().map(|policy| (policy, Mentions::default())).collect());
        Ok(Self {
            #[cfg(test)]
            policies,
            entities,
            schema,
            slices,
        })
    }

    pub(super) fn decide(&self, about: [(&str, &str); 3], context: &str) -> Result<Bare, String> {
        let (request, lineages) = self.request(about, context)?;
        let [principal, action, resource] = &lineages;
        let slice = self.slices.slice(principal, action, resource);
        Ok(Bare::of(&Authorizer::new().is_authorized(&request, &slice.policies, &self.entities)))
    }

    pub(super) fn request(
        &self,
        about: [(&str, &str); 3],
        context: &str,
    ) -> Result<(Request, [Lineage; 3]), String> {
        let [principal, action, resource] = about.map(uid);
        let (principal, action, resource) = (principal?, action?, resource?);
        let lineages = [&principal, &action, &resource].map(|uid| {
            let ancestors = self.entities.ancestors(uid).into_iter().flatten().cloned().collect();
            Lineage { uid: uid.clone(), ancestors }
        });
        let of_action = self.schema.as_ref().map(|schema| (schema, &action));
        let context =
            Context::from_json_str(context, of_action).map_err(|error| format!("the context: {error}"))?;
        let request = Request::new(principal, action, resource, context, self.schema.as_ref());
        Ok((request.map_err(|error| format!("the request: {error}"))?, lineages))
    }
}

impl Bare {
    pub(super) fn of(response: &Response) -> Self {
        let sorted = |ids: &mut dyn Iterator<Item = &PolicyId>| {
            let mut ids: Vec<String> = ids.map(ToString::to_string).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let errors = response.diagnostics().errors();
        Self {
            allow: response.decision() == Decision::Allow,
            reasons: sorted(&mut response.diagnostics().reason()),
            errors: sorted(
                &mut errors.map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id()),
            ),
        }
    }
}

fn uid((kind, id): (&str, &str)) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str(kind).map_err(|error| format!("the type {kind:?}: {error}"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}
