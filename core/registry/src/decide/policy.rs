//! Policies: all of a layer at once, so that nobody ever decides by half a change. What they say is checked
//! before, by whoever reads Cedar.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Command, Decision, Moment, Refusal};
use crate::{
    commit::Change,
    objects::{Key, Layer, Lowers, Policy, PolicyId, Sha256},
    registry::Registry,
};

/// Makes the policies of one layer exactly these.
#[derive(Clone, Debug)]
pub struct ReplacePolicies {
    /// Which layer.
    pub layer: Layer,
    /// All that it is to have, each of that layer.
    pub policies: BTreeMap<PolicyId, PolicyText>,
}

/// What a policy says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicyText {
    /// Cedar.
    pub text: String,
    /// What it lowers; only the platform's may.
    pub lowers: Lowers,
}

/// What became of a layer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Replaced {
    /// Policies that are new or different.
    pub put: Vec<PolicyId>,
    /// Policies that are gone.
    pub gone: Vec<PolicyId>,
}

/// The most that one file has, in bytes.
pub const MAX_FILE: usize = 256 * 1024;
/// The most that one layer has, in bytes.
pub const MAX_LAYER: usize = 4 * 1024 * 1024;
const MAX_FILES: usize = 1000;

impl Registry {
    /// The policies of a layer, by name.
    pub fn policies_of<'a>(&'a self, layer: &'a Layer) -> impl Iterator<Item = &'a Policy> {
        self.policies().map(|policy| &*policy.value).filter(|policy| policy.id.layer == *layer)
    }
}

impl Command for ReplacePolicies {
    type Answer = Result<Replaced, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Self { layer, policies } = self;
        if let Err(why) = check(&layer, &policies, registry) {
            return Decision::refused("policy.push", json!({ "layer": layer.to_string() }), why);
        }
        let (mut replaced, mut changes, mut texts) = (Replaced::default(), Vec::new(), Vec::new());
        for policy in registry.policies_of(&layer).filter(|policy| !policies.contains_key(&policy.id)) {
            changes.push(Change::Delete(Key::Policy(policy.id.clone())));
            replaced.gone.push(policy.id.clone());
        }
        for (id, PolicyText { text, lowers }) in policies {
            let is_there = |policy: &Policy| policy.text == text && policy.lowers == lowers;
            if registry.policy(&id).is_some_and(|policy| is_there(policy)) {
                continue;
            }
            texts.push(json!({ "policy": id, "sha256": Sha256::of(text.as_bytes()), "lowers": lowers }));
            replaced.put.push(id.clone());
            changes.push(registry.put_change(Policy { id, text, lowers, pushed_at: moment.now }));
        }
        if changes.is_empty() {
            return Decision::unchanged(replaced);
        }
        let facts = json!({ "layer": layer.to_string(), "put": texts, "gone": replaced.gone });
        Decision::done("policy.push", facts, changes, replaced)
    }
}

fn check(
    layer: &Layer,
    policies: &BTreeMap<PolicyId, PolicyText>,
    registry: &Registry,
) -> Result<(), Refusal> {
    let invalid = |why: String| Err(Refusal::Invalid(why));
    layer.tenant().map_or(Ok(()), |tenant| registry.known_tenant(tenant).map(drop))?;
    if policies.len() > MAX_FILES {
        return invalid(format!(
            "the layer {layer} has {} files; at most {MAX_FILES} are allowed",
            policies.len()
        ));
    }
    for (id, policy) in policies {
        if id.layer != *layer {
            return invalid(format!("the policy {id} is not of the layer {layer}"));
        }
        if policy.text.len() > MAX_FILE {
            return invalid(format!(
                "the policy {id} has {} bytes; at most {MAX_FILE} are allowed",
                policy.text.len()
            ));
        }
        if *layer != Layer::Platform && !policy.lowers.is_nothing() {
            return invalid(format!("the policy {id} cannot lower what tiers need; only the platform's can"));
        }
    }
    let bytes: usize = policies.values().map(|policy| policy.text.len()).sum();
    match bytes > MAX_LAYER {
        true => invalid(format!("the layer {layer} has {bytes} bytes; at most {MAX_LAYER} are allowed")),
        false => Ok(()),
    }
}
