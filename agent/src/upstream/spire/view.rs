//! What a SPIRE server said last, and how that differs from what it says now.

use std::collections::{BTreeSet, HashMap, HashSet};

use registry::{
    Delta, Key, LogId, Object, Revision, Snapshot, Stored,
    objects::{Bundle, EntryId},
};
use server_api::spire::{Edition, Synced};
use spiffe::TrustDomain;

/// This node's view, counted in revisions of our own: a SPIRE server has none.
#[derive(Debug)]
pub(super) struct View {
    log: LogId,
    at: Revision,
    objects: HashMap<Key, Stored>,
    editions: HashMap<EntryId, Edition>,
}

impl View {
    /// Nothing yet.
    pub(super) fn of(log: LogId) -> Self {
        Self { log, at: Revision(0), objects: HashMap::new(), editions: HashMap::new() }
    }

    /// Whether somebody who has followed up to here can go on with deltas.
    pub(super) fn is_at(&self, log: &LogId, at: Revision) -> bool {
        self.log == *log && self.at == at && at > Revision(0)
    }

    /// Which edition of each entry is known.
    pub(super) fn editions(&self) -> &HashMap<EntryId, Edition> {
        &self.editions
    }

    /// The trust domains that the entries will federate with once `synced` is taken.
    pub(super) fn federated(&self, synced: &Synced) -> BTreeSet<TrustDomain> {
        let fresh: HashSet<_> = synced.fresh.iter().map(|(entry, _)| &entry.id).collect();
        let known = self.objects.values().filter_map(|stored| match &stored.object {
            Object::Entry(entry) => Some(&**entry),
            _ => None,
        });
        let kept = known.filter(|entry| synced.there.contains(&entry.id) && !fresh.contains(&entry.id));
        let fresh = synced.fresh.iter().map(|(entry, _)| entry);
        kept.chain(fresh).flat_map(|entry| entry.federates_with.iter().cloned()).collect()
    }

    /// Takes what the server has now, and says what is different; the first time, that is everything.
    pub(super) fn take(&mut self, synced: Synced, bundles: Vec<Bundle>) -> Delta {
        let from = self.at;
        let kept: HashSet<Key> = synced
            .there
            .iter()
            .map(|id| Key::Entry(id.clone()))
            .chain(bundles.iter().map(|bundle| Key::Bundle(bundle.trust_domain().clone())))
            .collect();
        let gone: Vec<_> = self.objects.keys().filter(|key| !kept.contains(key)).cloned().collect();
        for key in &gone {
            self.objects.remove(key);
            if let Key::Entry(id) = key {
                self.editions.remove(id);
            }
        }
        let mut put = Vec::new();
        for (entry, edition) in synced.fresh {
            self.editions.insert(entry.id.clone(), edition);
            put.extend(self.put(edition.revision.saturating_add(1), entry.into()));
        }
        for bundle in bundles {
            let version = bundle.authorities().sequence.unwrap_or_default();
            put.extend(self.put(version, bundle.into()));
        }
        if from == Revision(0) || !(put.is_empty() && gone.is_empty()) {
            self.at = Revision(from.0 + 1);
        }
        Delta { log: self.log.clone(), from, to: self.at, put, gone }
    }

    /// Everything, for whoever begins.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { log: self.log.clone(), at: self.at, objects: self.objects.values().cloned().collect() }
    }

    /// Gives it back if it is new or different.
    fn put(&mut self, version: u64, object: Object) -> Option<Stored> {
        let (key, stored) = (object.key(), Stored { version, object });
        let is_same = self.objects.get(&key) == Some(&stored);
        if !is_same {
            self.objects.insert(key, stored.clone());
        }
        (!is_same).then_some(stored)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use registry::objects::Entry;
    use spiffe::Timestamp;

    use super::*;
    use crate::testing::entry;

    fn edition(revision: u64) -> Edition {
        Edition { revision, created_at: Timestamp::from_unix_seconds(7) }
    }

    fn made(id: &str, path: &str) -> Entry {
        Arc::unwrap_or_clone(entry(id, path, &["unix:uid:1"]))
    }

    /// What a server with few entries says: all of them, each time.
    fn whole(entries: Vec<Entry>) -> Synced {
        let mut synced = Synced::default();
        for entry in entries {
            synced.there.insert(entry.id.clone());
            synced.fresh.push((entry, edition(0)));
        }
        synced
    }

    fn bundle(sequence: u64) -> Bundle {
        let mut bundle = spiffe::Bundle::empty("acme.example".parse().unwrap());
        bundle.sequence = Some(sequence);
        Bundle::new(bundle).unwrap()
    }

    fn keys(stored: &[Stored]) -> BTreeSet<String> {
        stored.iter().map(|stored| stored.object.key().to_string()).collect()
    }

    #[test]
    fn the_same_again_is_a_heartbeat() {
        let mut view = View::of(LogId("a".into()));
        let first = view.take(whole(vec![made("e1", "/a")]), vec![bundle(1)]);
        assert_eq!((first.from, first.to, first.put.len()), (Revision(0), Revision(1), 2));
        let again = view.take(whole(vec![made("e1", "/a")]), vec![bundle(1)]);
        assert_eq!((again.from, again.to), (Revision(1), Revision(1)));
        assert!(again.put.is_empty() && again.gone.is_empty());
    }

    #[test]
    fn what_differs_is_said_and_nothing_else() {
        let mut view = View::of(LogId("a".into()));
        view.take(whole(vec![made("e1", "/a"), made("e2", "/b")]), vec![bundle(1)]);
        let delta = view.take(whole(vec![made("e2", "/c"), made("e3", "/d")]), vec![bundle(2)]);
        assert_eq!(delta.to, Revision(2));
        assert_eq!(
            keys(&delta.put),
            ["bundle/acme.example", "entry/e2", "entry/e3"].map(String::from).into()
        );
        assert_eq!(delta.gone, ["entry/e1".parse::<Key>().unwrap()]);
        assert_eq!(keys(&view.snapshot().objects), keys(&delta.put));
        assert!(!view.editions().contains_key(&"e1".parse().unwrap()));
    }

    #[test]
    fn what_the_server_did_not_repeat_stays_as_long_as_it_is_there() {
        let mut view = View::of(LogId("a".into()));
        view.take(whole(vec![made("e1", "/a"), made("e2", "/b")]), vec![bundle(1)]);
        let mut same = Synced::default();
        same.there.extend(["e1", "e2"].map(|id| id.parse::<EntryId>().unwrap()));
        let delta = view.take(same, vec![bundle(1)]);
        assert!(delta.put.is_empty() && delta.gone.is_empty());
        assert_eq!(view.editions().len(), 2);
    }

    #[test]
    fn the_bundles_that_entries_name_are_asked_for_and_no_others() {
        let federated =
            |id: &str, with: &str| Entry { federates_with: [with.parse().unwrap()].into(), ..made(id, "/a") };
        let mut view = View::of(LogId("a".into()));
        view.take(whole(vec![federated("e1", "one.example"), federated("e2", "two.example")]), vec![]);
        let mut next = whole(vec![federated("e3", "three.example")]);
        next.there.insert("e1".parse().unwrap());
        let names: Vec<_> = view.federated(&next).iter().map(|td| td.as_str().to_owned()).collect();
        assert_eq!(names, ["one.example", "three.example"]);
    }

    #[test]
    fn only_who_is_exactly_here_goes_on_from_here() {
        let mut view = View::of(LogId("a".into()));
        assert!(!view.is_at(&LogId("a".into()), Revision(0)), "nothing was said yet");
        view.take(whole(vec![]), vec![]);
        assert!(view.is_at(&LogId("a".into()), Revision(1)));
        assert!(!view.is_at(&LogId("b".into()), Revision(1)) && !view.is_at(&LogId("a".into()), Revision(2)));
    }
}
