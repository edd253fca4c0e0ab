//! A task begins: asked by the agent that will hold it, decided from what the log says alone. What the agent
//! asks for is only ever narrowed.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use spiffe::{SpiffeId, Timestamp};

use super::need::Measured;
use crate::{
    decide::{Command, Decision, Moment, Proposal, Refusal},
    index::Holder,
    objects::{
        Actor, Approved, Beginner, Budget, EntryId, Mandate, MandateName, Object, Sha256, Task, TaskId,
        TaskState, Tenant,
    },
    registry::Registry,
    scope::{Egress, Environment, Isolation, Params, Scope},
};

/// Begins a task on the node that asks.
#[derive(Clone, Debug)]
pub struct BeginTask {
    /// The task's name, chosen by the agent: the same request again is the same task.
    pub id: TaskId,
    /// The node that asks, as it authenticated; it will be the task's home.
    pub node: SpiffeId,
    /// What is asked for.
    pub wish: Wish,
    /// Whether a refusal is recorded here. Whoever is refused tries again and again, and the log must not grow by it;
    /// the door counts the others.
    pub records_refusal: bool,
}

/// What an agent asks for.
#[derive(Clone, Debug, Serialize)]
pub struct Wish {
    /// Under which mandate.
    pub mandate: MandateName,
    /// The entry that gives the asking process, or the one that is to work, the actor's ID.
    pub entry: EntryId,
    /// The parameters' values.
    pub params: Params,
    /// Less than the mandate allows; `None` asks for all of it.
    pub scope: Option<Scope>,
    /// Seconds; `None` asks for as long as the mandate allows.
    pub ttl: Option<u32>,
    /// What the beginner says about it.
    pub note: String,
    /// The task from inside which it is begun.
    pub parent: Option<TaskId>,
    /// The entry of the workload that begins it, where that is not the actor's own process.
    pub beginner: Option<EntryId>,
    /// How the processes are told apart, as the agent measured.
    pub isolation: Isolation,
    /// Where they can send to, as the agent measured.
    pub egress: Egress,
}

/// An id is chosen when it is used: older ones may have been forgotten, so they are no proof of a new task.
const MAX_AGE: Duration = Duration::from_secs(300);
const MAX_NOTE: usize = 1024;
/// The most that a task has as JSON, in bytes.
const MAX_BYTES: usize = 256 * 1024;

impl Command for BeginTask {
    /// The task as it is now.
    type Answer = Result<Task, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let facts = json!({
            "task": self.id, "home": self.node, "mandate": self.wish.mandate, "entry": self.wish.entry,
            "parent": self.wish.parent, "beginner": self.wish.beginner,
            "isolation": self.wish.isolation, "egress": self.wish.egress,
        });
        let begun =
            Beginning { registry, now: moment.now, id: &self.id, node: &self.node, wish: &self.wish }.begin();
        match begun {
            Ok(Begun { task, is_again: true, .. }) => Decision::unchanged(task),
            Ok(Begun { task, parent, .. }) => {
                let mut facts = facts;
                for (name, value) in [
                    ("actor", json!(task.actor)),
                    ("tenant", json!(task.tenant)),
                    ("version", json!(task.mandate_version)),
                    ("root", json!(task.root)),
                    ("tier", json!(task.tier)),
                    ("environment", json!(task.environment)),
                    ("expires_at", json!(task.expires_at)),
                    ("lowered_by", json!(task.lowered_by)),
                    ("sha256", json!(Sha256::of(&Object::from(task.clone()).to_json()))),
                ] {
                    facts[name] = value;
                }
                let mut changes = vec![registry.put_change(task.clone())];
                changes.extend(parent.map(|parent| registry.put_change(parent)));
                Decision::done(BEGIN, facts, changes, task)
            }
            Err(why) if self.records_refusal => Decision::refused(BEGIN, facts, why),
            Err(why) => Decision { proposal: Proposal::default(), answer: Err(why) },
        }
    }
}

const BEGIN: &str = "task.begin";

struct Begun {
    task: Task,
    /// The task above, with one child more.
    parent: Option<Task>,
    /// It was asked for before, and is there.
    is_again: bool,
}

struct Beginning<'a> {
    registry: &'a Registry,
    now: Timestamp,
    id: &'a TaskId,
    node: &'a SpiffeId,
    wish: &'a Wish,
}

impl Beginning<'_> {
    fn begin(&self) -> Result<Begun, Refusal> {
        let Self { registry, now, wish, .. } = *self;
        let asked_sha256 = self.asked()?;
        if let Some(task) = registry.task(self.id) {
            let is_same = task.home == *self.node && task.asked_sha256.matches(&asked_sha256);
            return match is_same && task.is_live(now) {
                true => Ok(Begun { task: Task::clone(task), parent: None, is_again: true }),
                false => Err(Refusal::AlreadyExists("this task id is used; choose a new one".to_owned())),
            };
        }
        self.check_form()?;
        let (mandate, approved) = self.mandate()?;
        let terms = &approved.terms;
        let (actor, tenant) = self.actor(&terms.actor)?;
        let environment = self.environment(approved, actor)?;
        let (beginner, parent) = self.beginner(approved)?;
        terms
            .check(&wish.params)
            .map_err(|error| Refusal::Invalid(format!("{error}; see: writ mandate show {}", mandate.name)))?;
        let tier = parent.map_or(terms.tier, |parent| parent.tier.max(terms.tier));
        let measured = Measured { isolation: wish.isolation, egress: wish.egress };
        let lowered_by = registry.is_enough(measured, terms, tier)?;
        self.check_caps(actor, tenant)?;
        let own = terms.budgets.of_tier(tier);
        let data_max = actor.ceiling.data_max.min(terms.data_max);
        let ends = now + Duration::from_secs(wish.ttl.map_or(terms.ttl, |ttl| ttl.min(terms.ttl)).into());
        let task = Task {
            id: self.id.clone(),
            actor: actor.id.clone(),
            tenant: tenant.name.clone(),
            mandate: mandate.name.clone(),
            mandate_version: approved.version,
            purpose: terms.purpose.clone(),
            params: wish.params.clone(),
            home: self.node.clone(),
            environment,
            beginner,
            parent: wish.parent.clone(),
            root: parent.map_or(self.id, |parent| &parent.root).clone(),
            depth: parent.map_or(0, |parent| parent.depth + 1),
            depth_left: parent.map_or(terms.max_depth, |parent| terms.max_depth.min(parent.depth_left - 1)),
            scope: self.scope(actor, approved, parent)?,
            data_max: parent.map_or(data_max, |parent| parent.data_max.min(data_max)),
            tier,
            isolation: wish.isolation,
            egress: wish.egress,
            budget: parent.map_or(own, |parent| least(own, parent.budget)),
            lowered_by,
            export_key: terms.export_key,
            note: wish.note.clone(),
            asked_sha256,
            children: 0,
            began_at: now,
            expires_at: parent.map_or(ends, |parent| ends.min(parent.expires_at)),
            state: TaskState::Active,
        };
        if Object::from(task.clone()).to_json().len() > MAX_BYTES {
            return Err(Refusal::Invalid("the task would be too large; ask for a smaller scope".to_owned()));
        }
        let parent = parent.map(|parent| Task { children: parent.children + 1, ..parent.clone() });
        Ok(Begun { task, parent, is_again: false })
    }

    /// The digest of the whole request.
    fn asked(&self) -> Result<Sha256, Refusal> {
        let request = json!({ "node": self.node, "wish": self.wish });
        let bytes = spiffe::json::canonical(&request).map_err(|error| Refusal::Invalid(error.to_string()))?;
        Ok(Sha256::of(&bytes))
    }

    fn check_form(&self) -> Result<(), Refusal> {
        let chosen = self.id.chosen_at();
        if chosen < self.now.before(MAX_AGE) || self.now + MAX_AGE < chosen {
            let why =
                format!("the task id was chosen at {chosen}, which is not now; set this machine's clock");
            return Err(Refusal::Invalid(why));
        }
        if self.wish.note.len() > MAX_NOTE || self.wish.note.chars().any(char::is_control) {
            return Err(Refusal::Invalid(format!("a note is one line of at most {MAX_NOTE} bytes")));
        }
        match self.wish.ttl {
            Some(0) => {
                Err(Refusal::Invalid("a task cannot end when it begins; ask for a longer ttl".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The approved mandate of the actor that the entry gives. Of others' mandates the node hears nothing.
    fn mandate(&self) -> Result<(&Mandate, &Approved), Refusal> {
        let Wish { mandate: name, entry, .. } = self.wish;
        let placed = self.registry.in_view(self.node, entry, self.now).ok_or_else(|| {
            Refusal::Denied(format!(
                "the entry {entry} is not for this node; see on the server: writ entry show {entry}"
            ))
        })?;
        let mandate = self.registry.mandate(name).map(|mandate| &*mandate.value);
        let approved = mandate.and_then(|mandate| Some((mandate, mandate.approved.as_ref()?)));
        approved.filter(|(_, approved)| approved.terms.actor == placed.spiffe_id).ok_or_else(|| {
            let id = &placed.spiffe_id;
            Refusal::Denied(format!(
                "{id} has no approved mandate {name}; see on the server: writ mandate list"
            ))
        })
    }

    fn actor(&self, id: &SpiffeId) -> Result<(&Actor, &Tenant), Refusal> {
        let actor = self.registry.known_actor(id)?;
        let tenant = self.registry.known_tenant(&actor.tenant)?;
        if let Some(why) = actor.stands_still(self.now) {
            return Err(Refusal::Denied(why));
        }
        match &tenant.disabled {
            Some(why) => Err(Refusal::Denied(format!("the tenant {} is disabled: {why}", tenant.name))),
            None => Ok((actor, tenant)),
        }
    }

    fn environment(&self, approved: &Approved, actor: &Actor) -> Result<Environment, Refusal> {
        let node = self.registry.node(self.node);
        let environment = node.map_or_else(Environment::unnamed, |node| node.stands_in());
        let is_among = approved.terms.environments.contains(&environment)
            && actor.ceiling.environments.contains(&environment);
        match is_among {
            true => Ok(environment),
            false => Err(Refusal::Denied(format!(
                "this node stands in the environment {environment}, where this mandate does not count"
            ))),
        }
    }

    /// Who begins it: whom the mandate names, and of whom this node shows more than a name.
    fn beginner(&self, approved: &Approved) -> Result<(Beginner, Option<&Task>), Refusal> {
        let begin = &approved.terms.begin;
        let denied = |why: &str| {
            Err(Refusal::Denied(format!("{why}; see on the server: writ mandate show {}", self.wish.mandate)))
        };
        match (&self.wish.parent, &self.wish.beginner) {
            (Some(_), Some(_)) => {
                Err(Refusal::Invalid("a task has one beginner: a task above it or a workload".to_owned()))
            }
            (Some(parent), None) => {
                let here = |task: &&Task| task.home == *self.node;
                let Some(task) = self.registry.task(parent).map(|task| &*task.value).filter(here) else {
                    return Err(Refusal::Denied(format!("there is no task {parent} on this node")));
                };
                if !task.is_live(self.now) {
                    return Err(Refusal::Precondition(format!("the task {parent} is not active")));
                }
                if !begin.parents.contains(&task.actor) {
                    return denied("tasks of this actor may not begin this mandate");
                }
                if task.depth_left == 0 {
                    return denied("no further task may stand below this one");
                }
                if task.children >= task.budget.children {
                    return denied("this task has begun as many children as it may");
                }
                Ok((Beginner::Parent(parent.clone()), Some(task)))
            }
            (None, Some(entry)) => {
                let workload =
                    self.registry.in_view(self.node, entry, self.now).map(|entry| &entry.spiffe_id);
                match workload.filter(|workload| begin.workloads.contains(*workload)) {
                    Some(workload) => Ok((Beginner::Workload(workload.clone()), None)),
                    None => denied("this workload may not begin this mandate"),
                }
            }
            (None, None) if begin.itself => Ok((Beginner::Itself, None)),
            (None, None) => denied("the actor may not begin this mandate by itself"),
        }
    }

    fn scope(&self, actor: &Actor, approved: &Approved, parent: Option<&Task>) -> Result<Scope, Refusal> {
        let invalid = |error: crate::scope::ScopeError| Refusal::Invalid(error.to_string());
        let bound = approved.terms.scope.bind(&self.wish.params).map_err(invalid)?;
        let mut scope = actor.ceiling.scope.intersect(&bound).map_err(invalid)?;
        if let Some(parent) = parent {
            scope = scope.intersect(&parent.scope).map_err(invalid)?;
        }
        if let Some(asked) = &self.wish.scope {
            // A parameter that an asker names has its value from the asker.
            let asked = Scope::new(asked.rules().to_vec()).and_then(|asked| asked.bind(&self.wish.params));
            scope = scope.intersect(&asked.map_err(invalid)?).map_err(invalid)?;
        }
        match scope.is_empty() && !bound.is_empty() {
            true => Err(Refusal::Denied(
                "nothing is left of what the mandate, the actor's ceiling and the asker allow together"
                    .to_owned(),
            )),
            false => Ok(scope),
        }
    }

    fn check_caps(&self, actor: &Actor, tenant: &Tenant) -> Result<(), Refusal> {
        let caps = self.registry.settings().tasks;
        for (holder, cap, whose) in [
            (Holder::Actor(actor.id.clone()), caps.of_actor, "this actor"),
            (Holder::Node(self.node.clone()), caps.on_node, "this node"),
            (Holder::Tenant(tenant.name.clone()), caps.of_tenant, "this tenant"),
        ] {
            let cap = cap as usize;
            if self.registry.index.held_by(&holder).take(cap).count() >= cap {
                return Err(Refusal::Precondition(format!(
                    "{whose} has {cap} tasks under way, which is the most; end some, or raise the cap in the server's [tasks]"
                )));
            }
        }
        Ok(())
    }
}

fn least(one: Budget, other: Budget) -> Budget {
    Budget {
        actions: one.actions.min(other.actions),
        denials: one.denials.min(other.denials),
        children: one.children.min(other.children),
    }
}
