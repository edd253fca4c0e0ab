//! [`Governance`]: actors, mandates, resources, policies and tasks as this node's view has them, at one revision.
//!
//! Readers take a snapshot and never wait; a change makes the next one. What takes away has taken effect before the
//! revision that says so is reached.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authz::World;
use registry::{
    Key, LogId, Object, Revision,
    objects::{Actor, Mandate, MandateName, Node, Task, TaskId},
};
use spiffe::SpiffeId;
use tokio::sync::watch;

/// Everything that decisions need of the view. A clone shares all of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Governance {
    objects: imbl::HashMap<Key, Object>,
    /// The same as decisions read it, with the policies compiled.
    pub(crate) world: World,
    node: Option<Arc<Node>>,
}

/// What a step changes in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Governed {
    /// Objects that are new or different; entries and bundles are not among them.
    pub(crate) put: Vec<Object>,
    /// Objects that are gone.
    pub(crate) gone: Vec<Key>,
}

/// Publishes it.
#[derive(Debug)]
pub(crate) struct Governing {
    current: ArcSwap<Governance>,
    at: watch::Sender<Option<(LogId, Revision)>>,
}

impl Governance {
    /// The actor of this SPIFFE ID.
    pub(crate) fn actor(&self, id: &SpiffeId) -> Option<&Arc<Actor>> {
        match self.objects.get(&Key::Actor(id.clone()))? {
            Object::Actor(actor) => Some(actor),
            _ => None,
        }
    }

    /// The mandate of this name.
    pub(crate) fn mandate(&self, name: &MandateName) -> Option<&Arc<Mandate>> {
        match self.objects.get(&Key::Mandate(name.clone()))? {
            Object::Mandate(mandate) => Some(mandate),
            _ => None,
        }
    }

    /// The task of this name, wherever its home is; an ended one for as long as anything under it could be valid.
    pub(crate) fn task(&self, id: &TaskId) -> Option<&Arc<Task>> {
        match self.objects.get(&Key::Task(id.clone()))? {
            Object::Task(task) => Some(task),
            _ => None,
        }
    }

    /// This node.
    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    fn apply(&mut self, step: &Governed) {
        for key in &step.gone {
            self.objects.remove(key);
            self.world.remove(key);
            if matches!(key, Key::Node(_)) {
                self.node = None;
            }
        }
        for object in &step.put {
            self.objects.insert(object.key(), object.clone());
            self.world.put(object);
            if let Object::Node(node) = object {
                self.node = Some(node.clone());
            }
        }
        self.world.settle();
    }
}

impl Governed {
    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.gone.is_empty()
    }

    /// Whether objects of this kind belong here.
    pub(crate) fn concerns(key: &Key) -> bool {
        match key {
            Key::Tenant(_)
            | Key::Actor(_)
            | Key::Mandate(_)
            | Key::Resource(_)
            | Key::Policy(_)
            | Key::Task(_)
            | Key::Node(_) => true,
            Key::Entry(_) | Key::Token(_) | Key::Authority(_) | Key::Bundle(_) | Key::Proof(_) => false,
        }
    }
}

impl Governing {
    /// The newest snapshot.
    pub(crate) fn now(&self) -> Arc<Governance> {
        self.current.load_full()
    }

    /// Up to where the view has been followed, now and after each step.
    pub(crate) fn at(&self) -> watch::Receiver<Option<(LogId, Revision)>> {
        self.at.subscribe()
    }

    /// Takes a step over. Only the spine's shell does, in order.
    pub(crate) fn follow(&self, step: &Governed) {
        let mut next = Governance::clone(&self.current.load());
        next.apply(step);
        self.current.store(Arc::new(next));
    }

    /// Everything up to here has taken effect.
    pub(crate) fn reach(&self, at: Option<(&LogId, Revision)>) {
        self.at.send_if_modified(|known| {
            let is_new = known.as_ref().map(|(log, at)| (log, *at)) != at;
            if is_new {
                *known = at.map(|(log, at)| (log.clone(), at));
            }
            is_new
        });
    }
}

impl Default for Governing {
    fn default() -> Self {
        Self { current: ArcSwap::default(), at: watch::Sender::new(None) }
    }
}
