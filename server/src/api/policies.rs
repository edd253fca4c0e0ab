//! Policies as administrators push them: what does not validate never reaches the log.

use std::collections::BTreeMap;

use authz::policy::{Fault, Owners};
use registry::{
    Command, Decision, Moment, Refusal, Registry,
    decide::{
        applied::Applied,
        entry::Effect,
        policy::{PolicyText, ReplacePolicies, Replaced},
    },
    objects::{Key, Layer, Policy, PolicyId, TenantName},
    scope::ResourceName,
};
use spiffe::Timestamp;

/// Makes one policy what a declaration asks for.
#[derive(Clone, Debug)]
pub(crate) struct UpsertPolicy {
    pub(crate) id: PolicyId,
    pub(crate) said: PolicyText,
}

/// Removes one policy.
#[derive(Clone, Debug)]
pub(crate) struct DeletePolicy {
    pub(crate) id: PolicyId,
}

/// The first thing that is wrong with what is to be pushed. Reading Cedar takes a while, so it is done before the
/// writer is asked; what is there already was in order when it came, and is not read again.
pub(crate) fn check<'a>(
    registry: &Registry,
    policies: impl IntoIterator<Item = (&'a PolicyId, &'a PolicyText)>,
) -> Result<(), Fault> {
    let is_new = |(id, said): &(&PolicyId, &PolicyText)| {
        registry.policy(id).is_none_or(|policy| policy.text != said.text)
    };
    let faults = |(id, said): (&PolicyId, &PolicyText)| {
        let (id, text, lowers) = (id.clone(), said.text.clone(), said.lowers.clone());
        let policy = Policy { id, text, lowers, pushed_at: Timestamp::default() };
        authz::policy::check(&policy, &Owned(registry))
    };
    policies.into_iter().filter(is_new).flat_map(faults).next().map_or(Ok(()), Err)
}

impl Command for UpsertPolicy {
    type Answer = Result<Applied, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Self { id, said } = self;
        let was_there = registry.policy(&id).is_some();
        let mut policies = all(registry, &id.layer);
        policies.insert(id.clone(), said);
        let replace = ReplacePolicies { layer: id.layer.clone(), policies };
        let Decision { proposal, answer } = replace.decide(registry, moment);
        let effect = |replaced: &Replaced| match (replaced.put.is_empty(), was_there) {
            (true, _) => Effect::Unchanged,
            (false, true) => Effect::Updated,
            (false, false) => Effect::Created,
        };
        let applied = |replaced: Replaced| Applied {
            key: Key::Policy(id),
            effect: effect(&replaced),
            warnings: Vec::new(),
        };
        Decision { proposal, answer: answer.map(applied) }
    }
}

impl Command for DeletePolicy {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let mut policies = all(registry, &self.id.layer);
        if policies.remove(&self.id).is_none() {
            let why = Refusal::NotFound(format!("there is no policy {}; see: writ policy show", self.id));
            return Decision { proposal: Default::default(), answer: Err(why) };
        }
        let replace = ReplacePolicies { layer: self.id.layer, policies };
        let Decision { proposal, answer } = replace.decide(registry, moment);
        Decision { proposal, answer: answer.map(drop) }
    }
}

fn all(registry: &Registry, layer: &Layer) -> BTreeMap<PolicyId, PolicyText> {
    let said = |policy: &Policy| PolicyText { text: policy.text.clone(), lowers: policy.lowers.clone() };
    registry.policies_of(layer).map(|policy| (policy.id.clone(), said(policy))).collect()
}

/// Whose actors and resources are, by the log.
struct Owned<'a>(&'a Registry);

impl Owners for Owned<'_> {
    fn of_actor(&self, id: &str) -> Option<TenantName> {
        let actor = id.parse().ok().and_then(|id| self.0.actor(&id))?;
        Some(actor.tenant.clone())
    }

    fn of_resource(&self, name: &ResourceName) -> Option<TenantName> {
        self.0.resource(name).map(|resource| resource.tenant.clone())
    }
}
