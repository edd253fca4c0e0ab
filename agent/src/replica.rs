//! This node's view of the log, followed delta by delta: applied whole or not at all.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use registry::{
    Delta, Key, LogId, Object, Revision, Snapshot, Stored,
    objects::{Bundle, Entry, EntryId},
};
use spiffe::SpiffeId;

use crate::tasks::governance::Governed;

/// The view, as far as it has been followed.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    position: Option<(LogId, Revision)>,
    objects: HashMap<Key, Stored>,
}

/// What a step changed for this agent.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Followed {
    /// Entries that are new or different.
    pub(crate) put: Vec<Put>,
    /// Entries that are gone.
    pub(crate) gone: Vec<EntryId>,
    /// Actors, mandates, tasks and whatever else decisions need that is new, different or gone.
    pub(crate) governed: Governed,
    /// Whether bundles are different.
    pub(crate) bundles: bool,
    /// Whether anything at all is different, so that it is worth saving.
    pub(crate) changed: bool,
}

/// An entry that is new or different.
#[derive(Debug, PartialEq)]
pub(crate) struct Put {
    /// As it is now.
    pub(crate) entry: Arc<Entry>,
    /// As it was.
    pub(crate) before: Option<Arc<Entry>>,
}

/// A delta that does not continue this view. Nothing was applied; a snapshot must be asked for.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("the server sent changes from revision {from} on, and this agent has followed to {at}")]
pub(crate) struct Misfit {
    from: u64,
    at: u64,
}

impl Replica {
    /// Up to where the view has been followed.
    pub(crate) fn position(&self) -> Option<(&LogId, Revision)> {
        self.position.as_ref().map(|(log, at)| (log, *at))
    }

    /// The entry of this name.
    pub(crate) fn entry(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        match &self.objects.get(&Key::Entry(id.clone()))?.object {
            Object::Entry(entry) => Some(entry),
            _ => None,
        }
    }

    /// The bundles that the server gave, its own trust domain's among them.
    pub(crate) fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.objects.values().filter_map(|stored| match &stored.object {
            Object::Bundle(bundle) => Some(bundle),
            _ => None,
        })
    }

    /// Actors whose plain SPIFFE ID is not handed out: only their tasks have one.
    pub(crate) fn task_only(&self) -> HashSet<SpiffeId> {
        let actors = self.objects.values().filter_map(|stored| match &stored.object {
            Object::Actor(actor) => Some(actor),
            _ => None,
        });
        actors.filter(|actor| !actor.insecure_standing_identity).map(|actor| actor.id.clone()).collect()
    }

    /// The entries that give this SPIFFE ID.
    pub(crate) fn givers<'a>(&'a self, id: &'a SpiffeId) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.objects.values().filter_map(move |stored| match &stored.object {
            Object::Entry(entry) if entry.spiffe_id == *id => Some(entry),
            _ => None,
        })
    }

    /// Which node this is: its own object is in its view, and no other node's.
    pub(crate) fn node(&self) -> Option<&SpiffeId> {
        self.objects.keys().find_map(|key| match key {
            Key::Node(id) => Some(id),
            _ => None,
        })
    }

    /// Applies a delta that begins where this view ends.
    pub(crate) fn apply(&mut self, delta: Delta) -> Result<Followed, Misfit> {
        let misfit = |at: Revision| Misfit { from: delta.from.0, at: at.0 };
        match &self.position {
            Some((log, at)) if *log == delta.log && *at == delta.from && delta.from <= delta.to => {}
            Some((_, at)) => return Err(misfit(*at)),
            None => return Err(misfit(Revision::default())),
        }
        let mut followed = Followed::default();
        for key in delta.gone {
            self.remove(&key, &mut followed);
        }
        for stored in delta.put {
            self.put(stored, &mut followed);
        }
        followed.changed |= delta.from != delta.to;
        self.position = Some((delta.log, delta.to));
        Ok(followed)
    }

    /// Replaces the view. What is the same in both is not touched.
    pub(crate) fn replace(&mut self, snapshot: Snapshot) -> Followed {
        let mut followed = Followed { changed: true, ..Followed::default() };
        let there: HashSet<_> = snapshot.objects.iter().map(|stored| stored.object.key()).collect();
        let gone: Vec<_> = self.objects.keys().filter(|key| !there.contains(key)).cloned().collect();
        for key in gone {
            self.remove(&key, &mut followed);
        }
        for stored in snapshot.objects {
            self.put(stored, &mut followed);
        }
        self.position = Some((snapshot.log, snapshot.at));
        followed
    }

    /// Forgets everything: the server knows this node no longer.
    pub(crate) fn clear(&mut self) -> Followed {
        let mut followed = Followed { changed: true, bundles: true, ..Followed::default() };
        for key in std::mem::take(&mut self.objects).into_keys() {
            match key {
                Key::Entry(id) => followed.gone.push(id),
                key if Governed::concerns(&key) => followed.governed.gone.push(key),
                _ => {}
            }
        }
        self.position = None;
        followed
    }

    /// The whole view, to be kept.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let (log, at) = self.position.clone()?;
        Some(Snapshot { log, at, objects: self.objects.values().cloned().collect() })
    }

    fn put(&mut self, stored: Stored, followed: &mut Followed) {
        let key = stored.object.key();
        // Versions of two logs cannot be compared, so the objects themselves are.
        if self.objects.get(&key).is_some_and(|known| known.object == stored.object) {
            self.objects.insert(key, stored);
            return;
        }
        followed.changed = true;
        followed.bundles |= matches!(key, Key::Bundle(_));
        let entry = match &stored.object {
            Object::Entry(entry) => Some(entry.clone()),
            object if Governed::concerns(&key) => {
                followed.governed.put.push(object.clone());
                None
            }
            _ => None,
        };
        let before = match self.objects.insert(key, stored).map(|stored| stored.object) {
            Some(Object::Entry(before)) => Some(before),
            _ => None,
        };
        followed.put.extend(entry.map(|entry| Put { entry, before }));
    }

    fn remove(&mut self, key: &Key, followed: &mut Followed) {
        if self.objects.remove(key).is_some() {
            followed.changed = true;
            followed.bundles |= matches!(key, Key::Bundle(_));
            match key {
                Key::Entry(id) => followed.gone.push(id.clone()),
                key if Governed::concerns(key) => followed.governed.gone.push(key.clone()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{hash_map, vec},
        prelude::*,
    };

    use super::*;
    use crate::testing::entry;

    fn log(name: &str) -> LogId {
        LogId(name.to_owned())
    }

    fn stored(id: u8, path: u8) -> Stored {
        let entry = entry(&format!("e{id}"), &format!("/w{path}"), &["unix:uid:1"]);
        Stored { version: 1, object: Object::Entry(entry) }
    }

    fn id(n: u8) -> EntryId {
        format!("e{n}").parse().unwrap()
    }

    fn at_seven() -> Replica {
        let mut replica = Replica::default();
        let objects = vec![stored(1, 1), stored(2, 2)];
        replica.replace(Snapshot { log: log("a"), at: Revision(7), objects });
        replica
    }

    #[test]
    fn a_delta_that_does_not_continue_the_view_changes_nothing() {
        let delta = |name: &str, from: u64, to: u64| Delta {
            log: log(name),
            from: Revision(from),
            to: Revision(to),
            put: vec![stored(3, 3)],
            gone: vec![Key::Entry(id(1))],
        };
        for wrong in [delta("b", 7, 8), delta("a", 6, 8), delta("a", 8, 9), delta("a", 7, 6)] {
            let mut replica = at_seven();
            assert!(replica.apply(wrong).is_err());
            assert_eq!(replica.position(), Some((&log("a"), Revision(7))));
            assert!(replica.entry(&id(1)).is_some() && replica.entry(&id(3)).is_none());
        }
        assert!(Replica::default().apply(delta("a", 0, 1)).is_err(), "nothing can be continued from nothing");
        let mut replica = at_seven();
        let followed = replica.apply(delta("a", 7, 8)).unwrap();
        assert_eq!((followed.put.len(), followed.gone), (1, vec![id(1)]));
    }

    #[test]
    fn a_heartbeat_changes_nothing() {
        let mut replica = at_seven();
        let heartbeat =
            Delta { log: log("a"), from: Revision(7), to: Revision(7), put: vec![], gone: vec![] };
        assert_eq!(replica.apply(heartbeat), Ok(Followed::default()));
    }

    #[test]
    fn another_log_begins_with_a_snapshot_and_only_what_differs_is_touched() {
        let mut replica = at_seven();
        let objects = vec![stored(1, 1), stored(3, 3)];
        let followed = replica.replace(Snapshot { log: log("b"), at: Revision(2), objects });
        assert_eq!(followed.put.iter().map(|put| &put.entry.id).collect::<Vec<_>>(), [&id(3)]);
        assert_eq!(followed.gone, [id(2)]);
        assert_eq!(replica.position(), Some((&log("b"), Revision(2))));
    }

    proptest! {
        /// `view(from) + delta = view(to)`, and what is told of a step leads from the entries before to
        /// those after.
        #[test]
        fn following_leads_to_the_same_view(views in vec(hash_map(0..6_u8, 0..3_u8, 0..6), 1..12), whole in vec(any::<bool>(), 12)) {
            let mut replica = Replica::default();
            let mut told = HashMap::new();
            let mut before: HashMap<u8, u8> = HashMap::new();
            for (n, (view, whole)) in views.into_iter().zip(whole).enumerate() {
                let (from, to) = (Revision(n as u64), Revision(n as u64 + 1));
                let followed = if whole || n == 0 {
                    let objects = view.iter().map(|(id, path)| stored(*id, *path)).collect();
                    replica.replace(Snapshot { log: log("a"), at: to, objects })
                } else {
                    let put = view.iter().filter(|(id, path)| before.get(id) != Some(path));
                    let gone = before.keys().filter(|id| !view.contains_key(id));
                    replica.apply(Delta {
                        log: log("a"), from, to,
                        put: put.map(|(id, path)| stored(*id, *path)).collect(),
                        gone: gone.map(|n| Key::Entry(id(*n))).collect(),
                    }).unwrap()
                };
                for Put { entry, before } in followed.put {
                    prop_assert_eq!(told.insert(entry.id.clone(), entry), before);
                }
                for id in followed.gone {
                    prop_assert!(told.remove(&id).is_some());
                }
                let expected: HashMap<_, _> = view.iter().map(|(n, path)| (id(*n), entry(&format!("e{n}"), &format!("/w{path}"), &["unix:uid:1"]))).collect();
                prop_assert_eq!(&told, &expected);
                prop_assert!(expected.keys().all(|id| replica.entry(id) == expected.get(id)));
                before = view;
            }
        }
    }
}
