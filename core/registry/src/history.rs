//! What the last commits touched, and whom it concerns, so that views are followed instead of sent anew.

use std::{collections::BTreeSet, sync::Arc};

use imbl::Vector;
use spiffe::SpiffeId;

use crate::{commit::Revision, objects::Key};

/// The nodes that have something in their view.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Audience {
    /// No node.
    #[default]
    Nobody,
    /// These nodes.
    Nodes(Arc<BTreeSet<SpiffeId>>),
    /// Every node.
    Everybody,
}

/// What one commit touched.
#[derive(Clone, Debug, PartialEq)]
pub struct Touched {
    /// The commit.
    pub revision: Revision,
    /// Objects in somebody's view that changed, or that entered or left one; each once.
    pub keys: Vec<TouchedKey>,
    /// Nodes whose view begins or ends with this commit.
    pub reseated: BTreeSet<SpiffeId>,
}

/// One object that a commit touched.
#[derive(Clone, Debug, PartialEq)]
pub struct TouchedKey {
    /// The object.
    pub key: Key,
    /// Who had it in view before the commit.
    pub before: Audience,
    /// Who has it in view after the commit.
    pub after: Audience,
}

/// The last commits that touched anything, newest last.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Views older than this cannot be followed.
    floor: Revision,
    touched: Vector<Arc<Touched>>,
    keys: usize,
}

/// Beyond so many commits the oldest are forgotten.
const MAX_COMMITS: usize = 8192;
/// Beyond so many touched objects the oldest commits are forgotten.
const MAX_KEYS: usize = 131_072;

impl Audience {
    /// These nodes; nobody where there is none.
    pub fn of(nodes: BTreeSet<SpiffeId>) -> Self {
        if nodes.is_empty() { Self::Nobody } else { Self::Nodes(Arc::new(nodes)) }
    }

    /// Whether `node` is among them.
    pub fn has(&self, node: &SpiffeId) -> bool {
        match self {
            Self::Nobody => false,
            Self::Nodes(nodes) => nodes.contains(node),
            Self::Everybody => true,
        }
    }
}

impl TouchedKey {
    pub(crate) fn is_seen(&self) -> bool {
        self.before != Audience::Nobody || self.after != Audience::Nobody
    }
}

impl Touched {
    /// Whether the view of `node` may differ now, so that somebody who follows it must look.
    pub fn concerns(&self, node: &SpiffeId) -> bool {
        self.reseated.contains(node)
            || self.keys.iter().any(|key| key.before.has(node) || key.after.has(node))
    }

    /// All nodes that this concerns, so that a server can wake them.
    pub fn audience(&self) -> Audience {
        let mut nodes = self.reseated.clone();
        let mut last: Option<&Arc<BTreeSet<SpiffeId>>> = None;
        for audience in self.keys.iter().flat_map(|key| [&key.before, &key.after]) {
            match audience {
                Audience::Everybody => return Audience::Everybody,
                // Keys of one batch mostly share one set.
                Audience::Nodes(more) if last.is_none_or(|last| !Arc::ptr_eq(last, more)) => {
                    nodes.extend(more.iter().cloned());
                    last = Some(more);
                }
                Audience::Nodes(_) | Audience::Nobody => {}
            }
        }
        Audience::of(nodes)
    }
}

impl History {
    pub(crate) fn starting_at(floor: Revision) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Remembers what a commit touched and forgets the oldest beyond the bounds.
    pub(crate) fn push(&mut self, touched: Arc<Touched>) {
        if touched.keys.is_empty() && touched.reseated.is_empty() {
            return; // mere records push nothing out
        }
        self.keys += touched.keys.len();
        self.touched.push_back(touched);
        while self.touched.len() > MAX_COMMITS || self.keys > MAX_KEYS {
            let Some(oldest) = self.touched.pop_front() else { return };
            self.keys -= oldest.keys.len();
            self.floor = oldest.revision;
        }
    }

    /// What commits after `from` touched, oldest first; `None` where that is forgotten.
    pub(crate) fn since(&self, from: Revision) -> Option<impl Iterator<Item = &Arc<Touched>>> {
        if from < self.floor {
            return None;
        }
        let start = self.touched.binary_search_by(|touched| touched.revision.cmp(&from.next()));
        let start = start.unwrap_or_else(|insertion| insertion);
        Some(self.touched.iter().skip(start))
    }
}
