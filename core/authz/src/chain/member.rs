//! One task of a chain, as it stands.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use registry::{
    objects::{Reason, Task},
    scope::{Effect, Label},
};
use serde::{Deserialize, Serialize};

use crate::{
    denial::{Code, Denial},
    facts::{self, Done, Known},
    now::Now,
};

/// Whether a task may act. Nothing leaves `Ended`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may.
    #[default]
    Active,
    /// It may wait or end.
    Suspended(Reason),
    /// It is over.
    Ended(Reason),
}

/// What a task has spent.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Spent {
    /// Permitted calls that read.
    pub reads: u32,
    /// Permitted calls that do more.
    pub changes: u32,
    /// Denied calls that it brought about itself.
    pub denials: u32,
    /// Children.
    pub children: u32,
    /// What its permitted calls do.
    pub effects: BTreeSet<Effect>,
}

/// All of a task that is not in its grant: what it starts with, and what survives a restart of its agent.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Standing {
    /// What it has read.
    pub label: Label,
    /// What it has spent, with all tasks below it.
    pub spent: Spent,
    /// Verdicts so far.
    pub seq: u64,
    /// Whether it may act.
    pub state: State,
    /// It was there before a restart, so its parent has paid for it.
    pub continued: bool,
}

/// Counts the states of a task. Permits compare it when they are spent, without the chain's lock.
#[derive(Clone, Debug, Default)]
pub struct Epoch(Arc<AtomicU64>);

/// One task of a chain.
#[derive(Debug)]
pub(crate) struct Member {
    grant: Arc<Task>,
    known: Known,
    standing: Standing,
    epoch: Epoch,
    /// Its end by boot time, so that setting the wall clock back does not lengthen its life.
    until: Duration,
}

impl Epoch {
    /// The number of the state that holds now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn next(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Member {
    pub(crate) fn new(grant: Arc<Task>, standing: Standing, now: Now) -> Self {
        let until = now.boot + grant.expires_at.since(now.wall);
        Self { known: facts::task(&grant), grant, standing, epoch: Epoch::default(), until }
    }

    /// The same, with an epoch of its own.
    pub(crate) fn copy(&self) -> Self {
        Self {
            grant: Arc::clone(&self.grant),
            known: self.known.clone(),
            standing: self.standing.clone(),
            epoch: Epoch::default(),
            until: self.until,
        }
    }

    pub(crate) fn grant(&self) -> &Arc<Task> {
        &self.grant
    }

    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    pub(crate) fn state(&self) -> &State {
        &self.standing.state
    }

    pub(crate) fn label(&self) -> &Label {
        &self.standing.label
    }

    pub(crate) fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing { continued: true, ..self.standing.clone() }
    }

    pub(crate) fn done(&self) -> Done {
        let Spent { reads, changes, denials, ref effects, .. } = self.standing.spent;
        Done { reads, changes, denials, effects: effects.clone() }
    }

    pub(crate) fn may_act(&self, now: Now) -> Result<(), Denial> {
        let task = &self.grant.id;
        match self.standing.state {
            State::Ended(reason) => {
                Err(Denial::new(Code::TaskEnded, format!("task {task} has ended: {}", reason.as_str())))
            }
            State::Suspended(reason) => {
                let why = format!(
                    "task {task} is suspended: {}; its owner or an admin may resume it",
                    reason.as_str()
                );
                Err(Denial::new(Code::TaskSuspended, why))
            }
            State::Active if now.wall >= self.grant.expires_at || now.boot >= self.until => Err(Denial::new(
                Code::TaskEnded,
                format!("task {task} ended with its time at {}", self.grant.expires_at),
            )),
            State::Active => Ok(()),
        }
    }

    pub(crate) fn raise(&mut self, label: &Label) -> bool {
        let rises = !label.is_within(&self.standing.label);
        if rises {
            self.standing.label = self.standing.label.join(label);
        }
        rises
    }

    /// Whether what comes back is no more confidential than it may handle.
    pub(crate) fn may_handle(&self, result: &Label) -> Result<(), Denial> {
        let grant = &self.grant;
        if result.confidentiality <= grant.data_max {
            return Ok(());
        }
        let (most, is) = (u8::from(grant.data_max), u8::from(result.confidentiality));
        let why = format!("task {} may handle data of confidentiality {most}, and this has {is}", grant.id);
        Err(Denial::new(Code::DataMaxExceeded, why))
    }

    /// Whether another action is within its budget.
    pub(crate) fn can_afford(&self) -> Result<(), Denial> {
        let Spent { reads, changes, .. } = self.standing.spent;
        let most = self.grant.budget.actions;
        if u64::from(reads) + u64::from(changes) < u64::from(most) {
            return Ok(());
        }
        let why = format!(
            "task {} has spent its {most} actions; begin another, or ask for a larger budget",
            self.grant.id
        );
        Err(Denial::new(Code::BudgetSpent, why))
    }

    pub(crate) fn spend_action(&mut self, effect: Effect) {
        let spent = &mut self.standing.spent;
        let count = if effect == Effect::Read { &mut spent.reads } else { &mut spent.changes };
        *count = count.saturating_add(1);
        spent.effects.insert(effect);
    }

    /// Counts a denial; whether that was one too many.
    pub(crate) fn spend_denial(&mut self) -> bool {
        let spent = &mut self.standing.spent;
        spent.denials = spent.denials.saturating_add(1);
        spent.denials > self.grant.budget.denials
    }

    /// Whether another task below it is within its budget.
    pub(crate) fn can_afford_child(&self) -> Result<(), Denial> {
        let most = self.grant.budget.children;
        if self.standing.spent.children < most {
            return Ok(());
        }
        let why = format!("task {} has had its {most} children; ask for a larger budget", self.grant.id);
        Err(Denial::new(Code::BudgetSpent, why))
    }

    pub(crate) fn spend_child(&mut self) {
        self.standing.spent.children = self.standing.spent.children.saturating_add(1);
    }

    pub(crate) fn next_seq(&mut self) -> u64 {
        self.standing.seq += 1;
        self.standing.seq
    }

    /// INVARIANT: an ended task stays ended; every change voids the permits that are out.
    pub(crate) fn set(&mut self, state: State) {
        if !matches!(self.standing.state, State::Ended(_)) {
            self.standing.state = state;
            self.epoch.next();
        }
    }

    pub(crate) fn void_permits(&self) {
        self.epoch.next();
    }
}
