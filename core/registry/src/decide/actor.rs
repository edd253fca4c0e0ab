//! Actors: registration, review, and their kill switch.

use serde_json::json;
use spiffe::{SpiffeId, Timestamp};

use super::{
    Command, Decision, Moment, Refusal,
    applied::{Applied, check_text, deleted, refused},
    entry::check_workload_id,
    task::Turns,
    tenant::MAX_REASON,
};
use crate::{
    index::Holder,
    objects::{Actor, Ceiling, Key, Reason},
    registry::Registry,
    scope::Scope,
};

/// Makes an actor what a declaration asks for. Whether it is disabled stays as it is. Live tasks keep no more
/// than a new ceiling allows.
#[derive(Clone, Debug)]
pub struct UpsertActor {
    /// What is asked for; `disabled`, `overdue` and `created_at` are the registry's own.
    pub actor: Actor,
}

/// Forgets an actor of which no mandate speaks any more.
#[derive(Clone, Debug)]
pub struct DeleteActor {
    /// Which.
    pub id: SpiffeId,
}

/// The kill switch: all tasks of an actor end, and none begins.
#[derive(Clone, Debug)]
pub struct DisableActor {
    /// Which.
    pub id: SpiffeId,
    /// Why, for people.
    pub why: String,
}

/// Takes the kill switch back. What ended stays ended.
#[derive(Clone, Debug)]
pub struct EnableActor {
    /// Which.
    pub id: SpiffeId,
}

impl Registry {
    /// The actor, where it is registered.
    pub(super) fn known_actor(&self, id: &SpiffeId) -> Result<&Actor, Refusal> {
        let actor = self.actor(id).map(|actor| &*actor.value);
        actor.ok_or_else(|| Refusal::NotFound(format!("there is no actor {id}; declare it first")))
    }

    /// Whether an ID belongs to an actor that has it only in its tasks, so that nothing is signed for the plain ID.
    pub fn is_task_only(&self, id: &SpiffeId) -> bool {
        self.actor(id).is_some_and(|actor| actor.is_task_only())
    }
}

impl Command for UpsertActor {
    type Answer = Result<Applied, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let current = registry.actor(&self.actor.id).map(|actor| &*actor.value);
        let key = Key::Actor(self.actor.id.clone());
        let wanted = Actor {
            disabled: current.and_then(|actor| actor.disabled.clone()),
            // An actor that was reviewed goes on; its suspended tasks wait for an administrator.
            overdue: current.is_some_and(|actor| actor.overdue && actor.review_at == self.actor.review_at),
            created_at: current.map_or(moment.now, |actor| actor.created_at),
            ..self.actor
        };
        let warnings = warnings(&wanted);
        if current == Some(&wanted) {
            return Applied::unchanged(key, warnings);
        }
        if let Err(why) = check(&wanted, current, registry, moment.now) {
            return refused("actor.apply", &key, why);
        }
        let mut turns = Turns::new(registry, moment.now);
        if current.is_some_and(|current| current.ceiling != wanted.ceiling) {
            turns.under_ceiling(&wanted.id, &wanted.ceiling);
        }
        registry.applied("actor.apply", wanted, warnings, turns.done())
    }
}

fn check(
    wanted: &Actor,
    current: Option<&Actor>,
    registry: &Registry,
    now: Timestamp,
) -> Result<(), Refusal> {
    check_workload_id(&wanted.id, registry)?;
    if format!("{}/task/{}", wanted.id, "0".repeat(26)).parse::<SpiffeId>().is_err() {
        let why =
            format!("{} is too long for an actor; its tasks' SPIFFE IDs are 32 bytes longer", wanted.id);
        return Err(Refusal::Invalid(why));
    }
    registry.known_tenant(&wanted.tenant)?;
    if let Some(current) = current.filter(|current| current.tenant != wanted.tenant) {
        let why = format!("the actor {} belongs to the tenant {}, for ever", wanted.id, current.tenant);
        return Err(Refusal::Precondition(why));
    }
    check_text("owner", &wanted.owner, 256)?;
    check_text("purpose", &wanted.purpose, 1024)?;
    if wanted.review_at <= now {
        let why = format!("review_at {} lies in the past; name the day of the next review", wanted.review_at);
        return Err(Refusal::Invalid(why));
    }
    check_ceiling(&wanted.ceiling)
}

fn check_ceiling(ceiling: &Ceiling) -> Result<(), Refusal> {
    let invalid = |why: String| Err(Refusal::Invalid(why));
    if let Err(error) = Scope::new(ceiling.scope.rules().to_vec()) {
        return invalid(format!("ceiling: {error}"));
    }
    match ceiling.scope.params().first() {
        Some(param) => invalid(format!("ceiling names the parameter {param}; only mandates have parameters")),
        None => Ok(()),
    }
}

fn warnings(actor: &Actor) -> Vec<String> {
    let id = &actor.id;
    let none = actor.ceiling.environments.is_empty();
    let nowhere =
        none.then(|| format!("the ceiling of {id} names no environment, so it can begin nothing anywhere"));
    let stands = (!actor.is_task_only())
        .then(|| format!("{id} has its plain SPIFFE ID also without a task (insecure_standing_identity)"));
    nowhere.into_iter().chain(stands).collect()
}

impl Command for DeleteActor {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let key = Key::Actor(self.id.clone());
        if let Err(why) = registry.known_actor(&self.id) {
            return refused("actor.delete", &key, why);
        }
        if let Some(mandate) = registry.mandates().find(|mandate| mandate.is_of(&self.id)) {
            let why = format!("the mandate {} is for {}; delete it first", mandate.name, self.id);
            return refused("actor.delete", &key, Refusal::Precondition(why));
        }
        let mut turns = Turns::new(registry, moment.now);
        turns.end_held_by(&Holder::Actor(self.id), Reason::ActorDisabled);
        deleted("actor.delete", key, turns.done())
    }
}

impl Command for DisableActor {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let checked = check_text("the reason", &self.why, MAX_REASON);
        let actor = match checked.and_then(|()| registry.known_actor(&self.id)) {
            Ok(actor) => actor,
            Err(why) => return refused("actor.disable", &Key::Actor(self.id), why),
        };
        let mut turns = Turns::new(registry, moment.now);
        turns.end_held_by(&Holder::Actor(self.id.clone()), Reason::ActorDisabled);
        let (mut changes, tasks) = turns.done();
        let facts = json!({ "actor": self.id, "why": self.why, "tasks": tasks });
        changes.insert(0, registry.put_change(Actor { disabled: Some(self.why), ..actor.clone() }));
        Decision::done("actor.disable", facts, changes, ())
    }
}

impl Command for EnableActor {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, _: &Moment) -> Decision<Self::Answer> {
        match registry.known_actor(&self.id) {
            Err(why) => refused("actor.enable", &Key::Actor(self.id), why),
            Ok(actor) if actor.disabled.is_none() => Decision::unchanged(()),
            Ok(actor) => {
                let facts = json!({ "actor": self.id, "was": actor.disabled });
                let enabled = registry.put_change(Actor { disabled: None, ..actor.clone() });
                Decision::done("actor.enable", facts, vec![enabled], ())
            }
        }
    }
}
