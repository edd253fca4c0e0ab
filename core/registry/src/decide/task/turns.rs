//! What becomes of tasks in one commit, with the tasks below them: each changes at most once, and nothing leaves
//! `Ended`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use spiffe::{SpiffeId, Timestamp};

use crate::{
    commit::Change,
    index::Holder,
    objects::{Ceiling, Reason, Task, TaskId, TaskState},
    registry::Registry,
    scope::{Confidentiality, Scope},
};

/// Tasks as they are after the commit that is being made.
pub(in crate::decide) struct Turns<'a> {
    registry: &'a Registry,
    now: Timestamp,
    turned: BTreeMap<TaskId, Task>,
    facts: Vec<Value>,
}

impl<'a> Turns<'a> {
    pub(in crate::decide) fn new(registry: &'a Registry, now: Timestamp) -> Self {
        Self { registry, now, turned: BTreeMap::new(), facts: Vec::new() }
    }

    /// The task as it is by now.
    pub(super) fn task(&self, id: &TaskId) -> Option<&Task> {
        self.turned.get(id).or_else(|| self.registry.task(id).map(|task| &*task.value))
    }

    /// Ends a task and all below it.
    pub(in crate::decide) fn end(&mut self, id: &TaskId, reason: Reason) {
        self.end_at(id, reason, self.now);
    }

    /// The same, where it ended a moment ago.
    pub(super) fn end_at(&mut self, id: &TaskId, reason: Reason, at: Timestamp) {
        let Some(task) = self.task(id).filter(|task| !task.is_ended()).cloned() else { return };
        self.turn(Task { state: TaskState::Ended { reason, at, closed: false }, ..task });
        for child in self.children(id) {
            self.end(&child, Reason::Ancestor);
        }
    }

    /// Ends all tasks that depend on something.
    pub(in crate::decide) fn end_held_by(&mut self, holder: &Holder, reason: Reason) {
        self.registry.index.held_by(holder).for_each(|task| self.end(task, reason));
    }

    /// Suspends a task and all below it. A reason of its own outlasts that of the task above.
    pub(in crate::decide) fn suspend(&mut self, id: &TaskId, reason: Reason, at: Timestamp) {
        let Some(task) = self.task(id).cloned() else { return };
        let is_new = match &task.state {
            TaskState::Active => true,
            TaskState::Suspended { reason: Reason::Ancestor, .. } => reason != Reason::Ancestor,
            TaskState::Suspended { .. } | TaskState::Ended { .. } => return,
        };
        if is_new {
            self.turn(Task { state: TaskState::Suspended { reason, at }, ..task });
        }
        for child in self.children(id) {
            self.suspend(&child, Reason::Ancestor, at);
        }
    }

    /// Lets a suspended task act again, and what was suspended only with it.
    pub(super) fn resume(&mut self, id: &TaskId) {
        let suspended = |task: &&Task| matches!(task.state, TaskState::Suspended { .. });
        let Some(task) = self.task(id).filter(suspended).cloned() else { return };
        self.turn(Task { state: TaskState::Active, ..task });
        for child in self.children(id) {
            let is_waiting =
                |task: &Task| matches!(task.state, TaskState::Suspended { reason: Reason::Ancestor, .. });
            if self.task(&child).is_some_and(is_waiting) {
                self.resume(&child);
            }
        }
    }

    /// Says that an ended task has nothing open any more.
    pub(super) fn close(&mut self, id: &TaskId) {
        if let Some(task) = self.task(id).cloned()
            && let TaskState::Ended { reason, at, closed: false } = task.state
        {
            self.turn(Task { state: TaskState::Ended { reason, at, closed: true }, ..task });
        }
    }

    /// Leaves to the tasks of an actor, and to all below them, what its new ceiling allows.
    pub(in crate::decide) fn under_ceiling(&mut self, actor: &SpiffeId, ceiling: &Ceiling) {
        for id in self.registry.index.held_by(&Holder::Actor(actor.clone())) {
            match self.task(id).is_some_and(|task| ceiling.environments.contains(&task.environment)) {
                true => self.narrow(id, &ceiling.scope, ceiling.data_max),
                false => self.end(id, Reason::EnvironmentChanged),
            }
        }
    }

    fn narrow(&mut self, id: &TaskId, scope: &Scope, data_max: Confidentiality) {
        let Some(task) = self.task(id).filter(|task| !task.is_ended()).cloned() else { return };
        // What is too much to write down is nothing.
        let narrowed = Task {
            scope: task.scope.within(scope).unwrap_or_default(),
            data_max: task.data_max.min(data_max),
            ..task.clone()
        };
        if narrowed != task {
            self.turn(narrowed.clone());
        }
        for child in self.children(id) {
            self.narrow(&child, &narrowed.scope, narrowed.data_max);
        }
    }

    /// The tasks right below that are not over.
    fn children(&self, id: &TaskId) -> Vec<TaskId> {
        self.registry.index.held_by(&Holder::Parent(id.clone())).cloned().collect()
    }

    fn turn(&mut self, task: Task) {
        self.facts.push(json!({
            "task": task.id,
            "root": task.root,
            "actor": task.actor,
            "tenant": task.tenant,
            "home": task.home,
            "state": task.state,
        }));
        self.turned.insert(task.id.clone(), task);
    }

    /// The changes, and what the audit log says of each.
    pub(in crate::decide) fn done(self) -> (Vec<Change>, Vec<Value>) {
        let registry = self.registry;
        (self.turned.into_values().map(|task| registry.put_change(task)).collect(), self.facts)
    }
}
