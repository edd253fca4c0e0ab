//! A chain: a root task and every task below it, in one total order.
//!
//! All of it lives at one home and behind one lock; whoever holds that may judge, raise, suspend and end. No
//! function here widens anything: labels rise, budgets fall, an ended task stays ended.

mod member;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

pub(crate) use member::Member;
pub use member::{Epoch, Spent, Standing, State};
use registry::{
    objects::{Reason, Task, TaskId},
    scope::{Egress, Label},
};

use crate::{
    denial::{Code, Denial},
    now::Now,
};

/// A root task and the tasks below it.
#[derive(Debug)]
pub struct Chain {
    root: TaskId,
    members: BTreeMap<TaskId, Member>,
}

/// A task whose label rose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Raised {
    /// Which.
    pub task: TaskId,
    /// Its label now.
    pub label: Label,
}

impl Chain {
    /// The chain of a root task. `standing` is what it starts with: its domain's label, or what it had before its
    /// agent was restarted.
    pub fn begin(root: Arc<Task>, standing: Standing, now: Now) -> Self {
        let id = root.id.clone();
        Self { members: [(id.clone(), Member::new(root, standing, now))].into(), root: id }
    }

    /// Puts a granted child under its parent: with its parent's label joined to `standing`'s, and its parent's end.
    /// It is spent from the children of every task above it. One that was there before a restart, as `standing`
    /// says, is put back in the same way and not paid for again.
    pub fn delegate(&mut self, child: Arc<Task>, mut standing: Standing, now: Now) -> Result<(), Denial> {
        let above = child.parent.as_ref().map(|parent| self.line(parent)).unwrap_or_default();
        let Some(parent) = above.first().and_then(|parent| self.members.get(parent)) else {
            return Err(Denial::new(
                Code::NoTask,
                format!("the parent of task {} is not of this chain", child.id),
            ));
        };
        let grant = parent.grant();
        self.may_act(&grant.id, now)?;
        if child.root != self.root || child.depth != grant.depth.saturating_add(1) || grant.depth_left == 0 {
            let why = format!("task {} may have no child at depth {}", grant.id, child.depth);
            return Err(Denial::new(Code::OutOfScope, why));
        }
        standing.label = standing.label.join(parent.label());
        if !standing.continued {
            above.iter().filter_map(|id| self.members.get(id)).try_for_each(Member::can_afford_child)?;
            above.iter().for_each(|id| self.members.get_mut(id).into_iter().for_each(Member::spend_child));
        }
        let label = standing.label.clone();
        let id = child.id.clone();
        self.members.insert(id.clone(), Member::new(child, standing, now));
        self.raise(&id, &label);
        Ok(())
    }

    /// The root's id, which is the chain's.
    pub fn id(&self) -> &TaskId {
        &self.root
    }

    /// Its tasks, ended ones included.
    pub fn tasks(&self) -> impl Iterator<Item = (&TaskId, &State)> {
        self.members.iter().map(|(id, member)| (id, member.state()))
    }

    /// What the server granted to a task.
    pub fn grant(&self, task: &TaskId) -> Option<&Arc<Task>> {
        self.members.get(task).map(Member::grant)
    }

    /// What a task has read, as far as its label says.
    pub fn label(&self, task: &TaskId) -> Option<&Label> {
        self.members.get(task).map(Member::label)
    }

    /// All that must survive a restart of a task.
    pub fn standing(&self, task: &TaskId) -> Option<Standing> {
        self.members.get(task).map(Member::standing)
    }

    /// Which state of a task holds; a permit of another epoch is void.
    pub fn epoch(&self, task: &TaskId) -> Option<&Epoch> {
        self.members.get(task).map(Member::epoch)
    }

    /// Whether a task and every one above it may act now.
    pub fn may_act(&self, task: &TaskId, now: Now) -> Result<(), Denial> {
        let line = self.line(task);
        if line.is_empty() {
            return Err(Denial::new(Code::NoTask, format!("there is no task {task} in chain {}", self.root)));
        }
        line.iter().filter_map(|id| self.members.get(id)).try_for_each(|member| member.may_act(now))
    }

    /// Joins a label into a task, and into every other that it could tell: while parent or child can send
    /// anywhere, what one knows the other knows. All whose labels rose are named.
    pub fn raise(&mut self, task: &TaskId, label: &Label) -> Vec<Raised> {
        let Some(start) = self.members.get(task) else { return Vec::new() };
        let label = start.label().join(label);
        let (mut open, mut seen, mut raised) = (vec![task.clone()], vec![task.clone()], Vec::new());
        while let Some(id) = open.pop() {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.raise(&label) {
                raised.push(Raised { task: id.clone(), label: member.label().clone() });
            }
            let is_open = member.grant().egress == Egress::Open;
            let parent = member.grant().parent.clone();
            let near = self.members.values().filter(|other| {
                let related =
                    other.grant().parent.as_ref() == Some(&id) || parent.as_ref() == Some(&other.grant().id);
                related && (is_open || other.grant().egress == Egress::Open)
            });
            let near: Vec<_> =
                near.map(|other| other.grant().id.clone()).filter(|id| !seen.contains(id)).collect();
            seen.extend(near.iter().cloned());
            open.extend(near);
        }
        raised
    }

    /// Takes note of an answer that is about to be released to a task: joins what it carries ([`Chain::raise`]).
    /// Only when that is durable may the first byte go. A task that may not act any more, or may not handle
    /// data of this confidentiality, gets nothing, and its label stays as it is.
    pub fn release(&mut self, task: &TaskId, carries: &Label, now: Now) -> Result<Vec<Raised>, Denial> {
        self.may_act(task, now)?;
        let line = self.line(task);
        line.iter()
            .filter_map(|id| self.members.get(id))
            .try_for_each(|member| member.may_handle(carries))?;
        Ok(self.raise(task, carries))
    }

    /// A child's answer has reached its parent through Writ, so the parent knows what the child knew.
    pub fn answered(&mut self, child: &TaskId) -> Vec<Raised> {
        let Some(member) = self.members.get(child) else { return Vec::new() };
        let (parent, label) = (member.grant().parent.clone(), member.label().clone());
        parent.map_or_else(Vec::new, |parent| self.raise(&parent, &label))
    }

    /// Suspends a task, and with it all below. Those whose permits are void now are named.
    pub fn suspend(&mut self, task: &TaskId, reason: Reason) -> Vec<TaskId> {
        let is_active = self.members.get(task).is_some_and(|member| *member.state() == State::Active);
        if !is_active {
            return Vec::new();
        }
        self.set(task, State::Suspended(reason));
        let below = self.below(task);
        below.iter().filter_map(|id| self.members.get(id)).for_each(Member::void_permits);
        below
    }

    /// Lets a suspended task go on. Those below that were suspended for themselves stay so.
    pub fn resume(&mut self, task: &TaskId) -> bool {
        let suspended =
            self.members.get(task).is_some_and(|member| matches!(member.state(), State::Suspended(_)));
        if suspended {
            self.set(task, State::Active);
        }
        suspended
    }

    /// Ends a task and all below it; those that ended are named, the task itself first.
    pub fn end(&mut self, task: &TaskId, reason: Reason) -> Vec<TaskId> {
        let mut ended = Vec::new();
        for id in self.below(task) {
            let is_over =
                self.members.get(&id).is_none_or(|member| matches!(member.state(), State::Ended(_)));
            if !is_over {
                self.set(&id, State::Ended(if id == *task { reason } else { Reason::Ancestor }));
                ended.push(id);
            }
        }
        ended
    }

    /// The same chain as it stands, for trying something out: what happens to one does not happen to the other.
    #[must_use]
    pub fn copy(&self) -> Self {
        let members = self.members.iter().map(|(id, member)| (id.clone(), member.copy()));
        Self { root: self.root.clone(), members: members.collect() }
    }

    /// Whether every task has ended, so that nothing will happen here any more.
    pub fn is_over(&self) -> bool {
        self.members.values().all(|member| matches!(member.state(), State::Ended(_)))
    }

    /// The task and those above it, the root last; empty for a task of another chain.
    pub(crate) fn line(&self, task: &TaskId) -> Vec<TaskId> {
        let mut line = Vec::new();
        let mut at = self.members.get(task);
        while let Some(member) = at {
            line.push(member.grant().id.clone());
            at = member.grant().parent.as_ref().and_then(|parent| self.members.get(parent));
        }
        line
    }

    pub(crate) fn member(&self, task: &TaskId) -> Option<&Member> {
        self.members.get(task)
    }

    pub(crate) fn member_mut(&mut self, task: &TaskId) -> Option<&mut Member> {
        self.members.get_mut(task)
    }

    /// The task and those below it, itself first, parents before children.
    fn below(&self, task: &TaskId) -> Vec<TaskId> {
        let mut found: Vec<TaskId> =
            self.members.contains_key(task).then(|| task.clone()).into_iter().collect();
        let mut at = 0;
        while at < found.len() {
            let children =
                self.members.values().filter(|member| member.grant().parent.as_ref() == Some(&found[at]));
            let children: Vec<_> = children.map(|member| member.grant().id.clone()).collect();
            found.extend(children);
            at += 1;
        }
        found
    }

    fn set(&mut self, task: &TaskId, state: State) {
        if let Some(member) = self.members.get_mut(task) {
            member.set(state);
        }
    }
}
