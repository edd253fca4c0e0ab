//! Commands on entries. Each takes a batch; each item succeeds or fails by itself, in order, and
//! sees what the items before it did. What succeeds is one commit.

mod batch;
mod rules;

use crate::{
    decide::{Command, Decision, Moment, Refusal},
    objects::{Entry, EntryId, EntryPatch, Versioned},
    registry::Registry,
};
use batch::Batch;
pub use rules::{check_dns_name, check_workload_id};

/// Creates entries. The door gives each its id; `created_at` is set here.
#[derive(Clone, Debug)]
pub struct CreateEntries {
    /// What is to be.
    pub entries: Vec<Entry>,
}

/// Changes fields of entries.
#[derive(Clone, Debug)]
pub struct UpdateEntries {
    /// Which, and how.
    pub updates: Vec<(EntryId, EntryPatch)>,
}

/// Makes entries what is asked for: created where missing, updated where they differ.
#[derive(Clone, Debug)]
pub struct UpsertEntries {
    /// What is to be.
    pub entries: Vec<Wanted>,
}

/// An entry as a declaration wants it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The whole entry.
    pub entry: Entry,
    /// Whether the declaration names the id. Where it does not, an entry that is similar is the one
    /// that is meant, and `entry.id` is only for a new one.
    pub names_id: bool,
}

/// Deletes entries.
#[derive(Clone, Debug)]
pub struct DeleteEntries {
    /// Which.
    pub ids: Vec<EntryId>,
}

/// What became of one item of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryOutcome {
    /// What was done, or why not.
    pub result: Result<Effect, Refusal>,
    /// The entry as it is now; the deleted one as it was; with `AlreadyExists` the one in the way.
    pub entry: Option<Versioned<Entry>>,
    /// What the asker should know although it was done.
    pub warnings: Vec<String>,
}

/// What was done to an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It is new.
    Created,
    /// It is different now.
    Updated,
    /// It was like that already.
    Unchanged,
    /// It is gone.
    Deleted,
}

impl Effect {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

impl Command for CreateEntries {
    type Answer = Vec<EntryOutcome>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let mut batch = Batch::new(registry, moment);
        self.entries.into_iter().for_each(|entry| batch.create(entry));
        batch.decided("entry.create")
    }
}

impl Command for UpdateEntries {
    type Answer = Vec<EntryOutcome>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let mut batch = Batch::new(registry, moment);
        self.updates.into_iter().for_each(|(id, patch)| batch.update(&id, patch));
        batch.decided("entry.update")
    }
}

impl Command for UpsertEntries {
    type Answer = Vec<EntryOutcome>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let mut batch = Batch::new(registry, moment);
        self.entries.into_iter().for_each(|wanted| batch.upsert(wanted));
        batch.decided("entry.apply")
    }
}

impl Command for DeleteEntries {
    type Answer = Vec<EntryOutcome>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let mut batch = Batch::new(registry, moment);
        self.ids.iter().for_each(|id| batch.delete(id));
        batch.decided("entry.delete")
    }
}
