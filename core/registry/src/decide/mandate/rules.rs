//! What a mandate's terms must be, and what is worth a warning.

use humantime::format_duration;

use crate::{
    decide::{Refusal, entry::check_workload_id},
    objects::{MandateName, TenantName, Terms},
    registry::Registry,
    scope::{Isolation, Scope, Tier},
};

/// The most tasks below one another.
const MAX_DEPTH: u8 = 8;
const MAX_PARAMETERS: usize = 64;
const MAX_BEGINNERS: usize = 128;

/// Refuses what may not be, naming the field and the value; the actor's tenant where it may.
pub(super) fn check<'a>(
    name: &MandateName,
    terms: &Terms,
    registry: &'a Registry,
) -> Result<&'a TenantName, Refusal> {
    let actor = registry.known_actor(&terms.actor)?;
    check_beginners(name, terms, registry)?;
    let invalid = |why: String| Err(Refusal::Invalid(format!("mandate {name}: {why}")));
    if let Err(error) = Scope::new(terms.scope.rules().to_vec()) {
        return invalid(error.to_string());
    }
    if terms.parameters.len() > MAX_PARAMETERS {
        return invalid(format!("at most {MAX_PARAMETERS} parameters are allowed"));
    }
    if let Some(param) = terms.scope.params().into_iter().find(|p| !terms.parameters.contains_key(p)) {
        return invalid(format!("its scope names the parameter {param}, which it does not declare"));
    }
    let longest = terms.tier.longest_ttl();
    if terms.ttl == 0 || u64::from(terms.ttl) > longest.as_secs() {
        let (tier, longest) = (u8::from(terms.tier), format_duration(longest));
        return invalid(format!(
            "a ttl of {} seconds is not between 1 second and {longest}, the most of tier {tier}",
            terms.ttl
        ));
    }
    if terms.max_depth > MAX_DEPTH {
        return invalid(format!("max_depth of {} is more than {MAX_DEPTH}", terms.max_depth));
    }
    if terms.environments.is_empty() {
        return invalid("it names no environment; nodes of none stand in `default`".to_owned());
    }
    if let Some(other) = terms.environments.difference(&actor.ceiling.environments).next() {
        return invalid(format!("the environment {other} is not in the ceiling of {}", terms.actor));
    }
    match terms.statement(name, 0) {
        Ok(_) => Ok(&actor.tenant),
        Err(error) => invalid(error.to_string()),
    }
}

fn check_beginners(name: &MandateName, terms: &Terms, registry: &Registry) -> Result<(), Refusal> {
    let invalid = |why: String| Err(Refusal::Invalid(format!("mandate {name}: {why}")));
    let begin = &terms.begin;
    if !begin.itself && begin.workloads.is_empty() && begin.parents.is_empty() {
        return invalid("nobody may begin it; name itself, workloads or parents under `begin`".to_owned());
    }
    if begin.itself && terms.tier >= Tier::T2 {
        let tier = u8::from(terms.tier);
        return invalid(format!(
            "an actor may begin by itself only what is of tier 0 or 1, not of tier {tier}; name workloads or parents"
        ));
    }
    if begin.workloads.len() + begin.parents.len() > MAX_BEGINNERS {
        return invalid(format!("at most {MAX_BEGINNERS} beginners are allowed"));
    }
    begin.workloads.iter().chain(&begin.parents).try_for_each(|id| check_workload_id(id, registry))
}

/// What the asker should know although the terms are allowed.
pub(super) fn warnings(name: &MandateName, terms: &Terms, registry: &Registry) -> Vec<String> {
    let mut warnings = Vec::new();
    if terms.begin.itself {
        warnings.push(format!(
            "{} may begin {name} with nobody asking, which is standing privilege; see: writ actor show {}",
            terms.actor,
            terms.actor.path(),
        ));
    }
    if terms.isolation == Some(Isolation::Shared) && terms.tier < Tier::T2 {
        warnings.push(format!("tasks of {name} may share one process, and then nobody can tell them apart"));
    }
    let registered = |id: &&_| registry.actor(id).is_none();
    warnings.extend(
        terms
            .begin
            .parents
            .iter()
            .filter(registered)
            .map(|id| format!("{id} is no actor, so it begins nothing")),
    );
    if terms.tier >= Tier::T2 {
        warnings
            .push(format!("{name} is of tier {}, and one person approves it alone", u8::from(terms.tier)));
    }
    warnings
}
