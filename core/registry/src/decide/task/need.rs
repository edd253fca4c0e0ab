//! What a task needs of its processes before it may begin.

use std::collections::BTreeSet;

use crate::{
    decide::Refusal,
    objects::{Layer, Lowers, PolicyId, Terms},
    registry::Registry,
    scope::{Egress, Isolation, Tier},
};

/// What was measured of the processes that are to hold a task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Measured {
    pub(super) isolation: Isolation,
    pub(super) egress: Egress,
}

impl Registry {
    /// Whether that is enough for these terms, and which policies of the platform it takes for that.
    pub(super) fn is_enough(
        &self,
        measured: Measured,
        terms: &Terms,
        tier: Tier,
    ) -> Result<BTreeSet<PolicyId>, Refusal> {
        let Measured { isolation, egress } = measured;
        let mut lowered_by = BTreeSet::new();
        let mut lowered = |by: fn(&Lowers) -> &BTreeSet<Tier>| {
            let policies =
                self.policies_of(&Layer::Platform).filter(|policy| by(&policy.lowers).contains(&tier));
            let ids: Vec<_> = policies.map(|policy| policy.id.clone()).collect();
            let is_lowered = !ids.is_empty();
            lowered_by.extend(ids);
            is_lowered
        };
        // Below tier 2 the terms may ask for less than is usual; from there on only the platform may.
        let (usual, least) = match tier < Tier::T2 {
            true => (tier.least_isolation(), Isolation::Shared),
            false => (tier.least_isolation(), tier.least_isolation()),
        };
        let needed = terms.isolation.unwrap_or(usual).max(least);
        if isolation < needed {
            let without = terms.isolation.unwrap_or(Isolation::Process).max(Isolation::Process);
            if tier < Tier::T2 || isolation < without || !lowered(|lowers| &lowers.isolation) {
                return too_little("isolation", isolation.as_str(), needed.as_str(), tier);
            }
        }
        let needed = terms.egress.unwrap_or_default().max(tier.least_egress());
        if egress < needed {
            let without = terms.egress.unwrap_or_default();
            if egress < without || !lowered(|lowers| &lowers.egress) {
                return too_little("egress", egress.as_str(), needed.as_str(), tier);
            }
        }
        Ok(lowered_by)
    }
}

fn too_little<T>(what: &str, measured: &str, needed: &str, tier: Tier) -> Result<T, Refusal> {
    Err(Refusal::Precondition(format!(
        "the {what} of the asking process is {measured}, and this task of tier {} needs {needed}; start it with: writ run",
        u8::from(tier)
    )))
}
