//! What administrators do to single tasks. Only they let a suspended one go on.

use serde_json::json;

use super::Turns;
use crate::{
    decide::{Command, Decision, Moment, Refusal, applied::check_text, tenant::MAX_REASON},
    objects::{Reason, Task, TaskId, TaskState},
    registry::Registry,
};

/// Ends a task and all below it.
#[derive(Clone, Debug)]
pub struct EndTask {
    /// Which.
    pub id: TaskId,
    /// Why, for people.
    pub why: String,
}

/// Suspends a task and all below it.
#[derive(Clone, Debug)]
pub struct SuspendTask {
    /// Which.
    pub id: TaskId,
    /// Why, for people.
    pub why: String,
}

/// Lets a suspended task go on, and what was suspended only with it.
#[derive(Clone, Debug)]
pub struct ResumeTask {
    /// Which.
    pub id: TaskId,
    /// Why, for people.
    pub why: String,
}

impl Registry {
    fn known_task(&self, id: &TaskId) -> Result<&Task, Refusal> {
        let task = self.task(id).map(|task| &*task.value);
        task.ok_or_else(|| Refusal::NotFound(format!("there is no task {id}; see: writ task list")))
    }

    /// Why a suspended task may not go on.
    fn may_resume(&self, task: &Task, moment: &Moment) -> Result<(), Refusal> {
        let refused = |why: String| Err(Refusal::Precondition(why));
        if let Some(above) =
            task.parent.as_ref().and_then(|id| self.task(id)).filter(|above| !above.is_live(moment.now))
        {
            return refused(format!("the task {} above it is not active; resume that one", above.id));
        }
        if let Some(why) = self.known_actor(&task.actor)?.stands_still(moment.now) {
            return refused(why);
        }
        if let Some(why) = &self.known_tenant(&task.tenant)?.disabled {
            return refused(format!("the tenant {} is disabled: {why}", task.tenant));
        }
        match task.expires_at <= moment.now {
            true => refused(format!("the time of the task {} is over", task.id)),
            false => Ok(()),
        }
    }
}

impl Command for EndTask {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Self { id, why } = self;
        decided("task.end", registry, moment, &id, &why, |task, turns| match task.state {
            TaskState::Ended { .. } => Ok(()),
            TaskState::Active | TaskState::Suspended { .. } => {
                turns.end(&task.id, Reason::Administrator);
                Ok(())
            }
        })
    }
}

impl Command for SuspendTask {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Self { id, why } = self;
        decided("task.suspend", registry, moment, &id, &why, |task, turns| match task.state {
            TaskState::Ended { .. } => Err(over(task)),
            TaskState::Active | TaskState::Suspended { .. } => {
                turns.suspend(&task.id, Reason::Administrator, moment.now);
                Ok(())
            }
        })
    }
}

impl Command for ResumeTask {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Self { id, why } = self;
        decided("task.resume", registry, moment, &id, &why, |task, turns| match task.state {
            TaskState::Ended { .. } => Err(over(task)),
            TaskState::Active => Ok(()),
            TaskState::Suspended { .. } => {
                registry.may_resume(task, moment)?;
                turns.resume(&task.id);
                Ok(())
            }
        })
    }
}

fn decided<'a>(
    kind: &'static str,
    registry: &'a Registry,
    moment: &Moment,
    id: &TaskId,
    why: &str,
    turn: impl FnOnce(&'a Task, &mut Turns<'a>) -> Result<(), Refusal>,
) -> Decision<Result<(), Refusal>> {
    let mut turns = Turns::new(registry, moment.now);
    let turned = check_text("the reason", why, MAX_REASON)
        .and_then(|()| registry.known_task(id))
        .and_then(|task| turn(task, &mut turns));
    let (changes, tasks) = turns.done();
    let facts = json!({ "task": id, "why": why, "tasks": tasks });
    match turned {
        Err(refusal) => Decision::refused(kind, facts, refusal),
        Ok(()) if changes.is_empty() => Decision::unchanged(()),
        Ok(()) => Decision::done(kind, facts, changes, ()),
    }
}

fn over(task: &Task) -> Refusal {
    Refusal::Precondition(format!(
        "the task {} is over, and nothing brings it back; begin a new one",
        task.id
    ))
}
