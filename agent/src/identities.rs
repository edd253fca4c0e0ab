//! Who gets what on this node, at this moment: entries and their SVIDs on one side, callers on the other.
//!
//! Callers of whom the same facts were proved form a group and share one watch channel, and with it one
//! encoded answer. A change looks up the groups that it concerns, and only those are told.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use attestors::Wanted;
use bytes::Bytes;
use parking_lot::Mutex;
use registry::objects::{Entry, EntryId};
use serde::{Deserialize, Serialize};
use spiffe::{Bundles, Selector, SpiffeId, Timestamp};
use tokio::sync::{mpsc, watch};
use workload_api::{Identity, Standing, Svids, X509Bundles, X509Svid};

use crate::{
    matching::{Facts, Index},
    rotation::Validity,
};

/// Groups that nobody follows are kept, so that callers who come again and again find theirs.
const IDLE_GROUPS: usize = 4096;

/// What is published to callers.
pub(crate) struct Identities {
    inner: Mutex<Inner>,
    /// Entries whose SVID somebody asks for and nobody has made.
    asked: mpsc::UnboundedSender<EntryId>,
}

/// An SVID as it is held for an entry.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The SVID with its key.
    pub(crate) svid: Arc<X509Svid>,
    /// How long it is valid.
    pub(crate) validity: Validity,
    /// What of the entry is in it.
    pub(crate) made_for: MadeFor,
}

/// What of an entry goes into its SVID: if that changes, a new one is made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct MadeFor {
    spiffe_id: SpiffeId,
    dns_names: Vec<String>,
    x509_svid_ttl: u32,
    expires_at: Option<Timestamp>,
}

impl From<&Entry> for MadeFor {
    fn from(entry: &Entry) -> Self {
        Self {
            spiffe_id: entry.spiffe_id.clone(),
            dns_names: entry.dns_names.clone(),
            x509_svid_ttl: entry.x509_svid_ttl,
            expires_at: entry.expires_at,
        }
    }
}

/// What becomes different in one step. It becomes visible as a whole.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// Entries that are new or different.
    pub(crate) put: Vec<Arc<Entry>>,
    /// Entries that are gone.
    pub(crate) gone: Vec<EntryId>,
    /// SVIDs that are there now.
    pub(crate) svids: Vec<(EntryId, Held)>,
    /// Entries whose SVID is not to be handed out any more.
    pub(crate) withdrawn: Vec<EntryId>,
    /// The bundles, if they changed.
    pub(crate) bundles: Option<Arc<Bundles>>,
    /// Whether this agent knows its entries now; before, nobody is told that it has no identity.
    pub(crate) view_is_known: bool,
}

/// An entry that does not match, and what is missing for it.
pub(crate) type Almost = (Arc<Entry>, Vec<Selector>);

/// What was asked for when a caller was attested, so that it is known when that no longer suffices.
#[derive(Clone, Debug)]
pub(crate) struct Asked(Arc<Wanted>);

struct Inner {
    view_is_known: bool,
    index: Index,
    /// What entries ask for, counted.
    wanted: Wanted,
    /// The same as it is given to attestors: it changes with the kinds of facts, not with every count.
    asking: Arc<Wanted>,
    bundles: X509Bundles,
    svids: HashMap<EntryId, Held>,
    groups: HashMap<Facts, Group>,
    /// Groups by each of their facts.
    with_fact: HashMap<Selector, HashSet<Facts>>,
    /// Entries that were asked for and have no SVID yet.
    waited_for: HashSet<EntryId>,
}

struct Group {
    standing: watch::Sender<Standing>,
    /// What its members were attested for.
    asked: Arc<Wanted>,
    /// When the first of its SVIDs ends.
    until: Option<Timestamp>,
}

impl Identities {
    /// Nothing is known. The receiver gets entries whose SVID is asked for.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<EntryId>) {
        let (asked, receiver) = mpsc::unbounded_channel();
        let inner = Inner {
            view_is_known: false,
            index: Index::default(),
            wanted: Wanted::default(),
            asking: Arc::default(),
            bundles: X509Bundles::new(),
            svids: HashMap::new(),
            groups: HashMap::new(),
            with_fact: HashMap::new(),
            waited_for: HashSet::new(),
        };
        (Self { inner: Mutex::new(inner), asked }, receiver)
    }

    /// What entries ask of processes now.
    pub(crate) fn wanted(&self) -> (Arc<Wanted>, Asked) {
        let asking = self.inner.lock().asking.clone();
        (asking.clone(), Asked(asking))
    }

    /// Where callers with these facts stand, now and after each change.
    pub(crate) fn follow(&self, facts: &Facts, asked: &Asked, now: Timestamp) -> watch::Receiver<Standing> {
        let mut inner = self.inner.lock();
        if !asked.0.covers(&inner.asking) {
            // An entry came meanwhile that asks for more; this caller is identified once more.
            return watch::channel(Standing::Outdated).1;
        }
        match inner.groups.get(facts) {
            Some(group) if group.until.is_none_or(|until| now < until) => return group.standing.subscribe(),
            // The clock was set, or the machine slept: the step that withdraws has not come yet.
            Some(_) => inner.tell(facts, now),
            None => inner.open(facts, asked, now),
        }
        for id in inner.unmade(facts) {
            // An error means that the agent is ending.
            let _ = self.asked.send(id);
        }
        match inner.groups.get(facts) {
            Some(group) => group.standing.subscribe(),
            None => watch::channel(Standing::Preparing).1,
        }
    }

    /// Makes a step visible to all whom it concerns.
    pub(crate) fn publish(&self, step: Publication, now: Timestamp) {
        let mut inner = self.inner.lock();
        let concerned = inner.apply(step);
        for facts in concerned {
            inner.tell(&facts, now);
        }
    }

    /// Entries that match these facts, and some that would with a little more: each with what is missing.
    pub(crate) fn explain(&self, facts: &Facts) -> (Vec<Arc<Entry>>, Vec<Almost>) {
        let inner = self.inner.lock();
        let missing = |entry: &Entry| -> Vec<_> {
            entry.selectors.iter().filter(|selector| !facts.has(selector)).cloned().collect()
        };
        let mut almost: Vec<_> = inner
            .index
            .iter()
            .map(|entry| (entry.clone(), missing(entry)))
            .filter(|(entry, missing)| {
                missing.len() == 1 || (!missing.is_empty() && missing.len() < entry.selectors.len())
            })
            .collect();
        almost.sort_by(|(a, a_missing), (b, b_missing)| {
            (a_missing.len(), &a.id).cmp(&(b_missing.len(), &b.id))
        });
        almost.truncate(ALMOST);
        (inner.index.matches(facts), almost)
    }

    /// Every SVID that is handed out.
    pub(crate) fn held(&self) -> Vec<(EntryId, Arc<X509Svid>)> {
        let inner = self.inner.lock();
        inner.svids.iter().map(|(id, held)| (id.clone(), held.svid.clone())).collect()
    }

    /// How many entries there are, and for how many of them there is an SVID.
    pub(crate) fn count(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.index.len(), inner.svids.len())
    }
}

impl Publication {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { put, gone, svids, withdrawn, bundles, view_is_known } = self;
        put.is_empty()
            && gone.is_empty()
            && svids.is_empty()
            && withdrawn.is_empty()
            && bundles.is_none()
            && !view_is_known
    }
}

impl Inner {
    /// Takes a step over, and says which groups must be told.
    fn apply(&mut self, step: Publication) -> HashSet<Facts> {
        let mut concerned = HashSet::new();
        let everybody = step.bundles.is_some() || (step.view_is_known && !self.view_is_known);
        self.view_is_known |= step.view_is_known;
        if let Some(bundles) = step.bundles {
            self.bundles = bundles.iter().map(|bundle| (bundle.trust_domain.clone(), der(bundle))).collect();
        }
        for id in step.gone {
            self.svids.remove(&id);
            self.waited_for.remove(&id);
            if let Some(before) = self.index.remove(&id) {
                before.selectors.iter().for_each(|selector| self.wanted.remove(selector));
                self.concerned_by(&before, &mut concerned);
            }
        }
        for entry in step.put {
            entry.selectors.iter().for_each(|selector| self.wanted.add(selector));
            self.concerned_by(&entry, &mut concerned);
            if let Some(before) = self.index.put(entry) {
                before.selectors.iter().for_each(|selector| self.wanted.remove(selector));
                self.concerned_by(&before, &mut concerned);
            }
        }
        for id in step.withdrawn {
            self.svids.remove(&id);
            self.index.get(&id).cloned().inspect(|entry| self.concerned_by(entry, &mut concerned));
        }
        for (id, held) in step.svids {
            self.waited_for.remove(&id);
            // INVARIANT: nothing is held for an entry that is not there.
            if let Some(entry) = self.index.get(&id).cloned() {
                self.svids.insert(id, held);
                self.concerned_by(&entry, &mut concerned);
            }
        }
        self.ask();
        if everybody { self.groups.keys().cloned().collect() } else { concerned }
    }

    /// The groups that match an entry.
    fn concerned_by(&self, entry: &Entry, concerned: &mut HashSet<Facts>) {
        // Those with its rarest selector; if one of its selectors is nobody's fact, there are none.
        let with = |selector| self.with_fact.get(selector).map_or(0, HashSet::len);
        let rarest = entry.selectors.iter().min_by_key(|selector| with(selector));
        let candidates = rarest.and_then(|selector| self.with_fact.get(selector));
        concerned.extend(
            candidates.into_iter().flatten().filter(|facts| facts.have_all(&entry.selectors)).cloned(),
        );
    }

    /// Lets attestors ask for what entries ask for now. Groups of whom too little is known are dissolved.
    fn ask(&mut self) {
        let widened = !self.asking.covers(&self.wanted);
        if !widened && self.wanted.covers(&self.asking) {
            return; // the same kinds of facts: callers that were attested before share with later ones
        }
        self.asking = Arc::new(self.wanted.clone());
        let outdated = self.groups.iter().filter(|(_, group)| !group.asked.covers(&self.asking));
        let outdated: Vec<_> = outdated.map(|(facts, _)| facts.clone()).collect();
        for facts in outdated {
            if let Some(group) = self.close(&facts) {
                group.standing.send_replace(Standing::Outdated);
            }
        }
    }

    /// Tells a group where it stands.
    fn tell(&mut self, facts: &Facts, now: Timestamp) {
        let (standing, until) = self.standing(facts, now);
        if let Some(group) = self.groups.get_mut(facts) {
            group.until = until;
            group.standing.send_replace(standing);
        }
    }

    fn standing(&self, facts: &Facts, now: Timestamp) -> (Standing, Option<Timestamp>) {
        let entries = self.index.matches(facts);
        if entries.is_empty() {
            let standing = if self.view_is_known { Standing::Nothing } else { Standing::Preparing };
            return (standing, None);
        }
        let held: Vec<_> = entries
            .iter()
            .filter_map(|entry| Some((entry, self.svids.get(&entry.id)?)))
            // An entry may name somebody else since its SVID was made.
            .filter(|(entry, held)| now < held.validity.until && held.svid.id == entry.spiffe_id)
            .collect();
        let Some(until) = held.iter().map(|(_, held)| held.validity.until).min() else {
            return (Standing::Preparing, None);
        };
        let bundles = self
            .bundles
            .iter()
            .filter(|&(td, _)| {
                held.iter().any(|(entry, _)| entry.spiffe_id.is_in(td) || entry.federates_with.contains(td))
            })
            .map(|(td, authorities)| (td.clone(), authorities.clone()))
            .collect();
        let identities = held
            .into_iter()
            .map(|(entry, held)| Identity { svid: held.svid.clone(), hint: entry.hint.clone() })
            .collect();
        (Standing::Holds(Arc::new(Svids::new(identities, bundles))), Some(until))
    }

    /// Entries that match, have no SVID, and have not been asked for yet.
    fn unmade(&mut self, facts: &Facts) -> Vec<EntryId> {
        let unmade: Vec<_> = self
            .index
            .matches(facts)
            .into_iter()
            .filter(|entry| !self.svids.contains_key(&entry.id))
            .collect();
        unmade
            .into_iter()
            .filter(|entry| self.waited_for.insert(entry.id.clone()))
            .map(|entry| entry.id.clone())
            .collect()
    }

    fn open(&mut self, facts: &Facts, asked: &Asked, now: Timestamp) {
        if self.groups.len() >= IDLE_GROUPS {
            let idle = self.groups.iter().filter(|(_, group)| group.standing.receiver_count() == 0);
            let idle: Vec<_> = idle.map(|(facts, _)| facts.clone()).collect();
            for facts in idle {
                self.close(&facts);
            }
        }
        let (standing, until) = self.standing(facts, now);
        let group = Group { standing: watch::Sender::new(standing), asked: asked.0.clone(), until };
        self.groups.insert(facts.clone(), group);
        for fact in facts.iter() {
            self.with_fact.entry(fact.clone()).or_default().insert(facts.clone());
        }
    }

    fn close(&mut self, facts: &Facts) -> Option<Group> {
        for fact in facts.iter() {
            if let Some(groups) = self.with_fact.get_mut(fact) {
                groups.remove(facts);
                if groups.is_empty() {
                    self.with_fact.remove(fact);
                }
            }
        }
        self.groups.remove(facts)
    }
}

/// A bundle's X.509 authorities as the Workload API hands them out.
fn der(bundle: &spiffe::Bundle) -> Bytes {
    bundle.x509_authorities.iter().flat_map(|authority| authority.iter().copied()).collect()
}

/// So many entries that almost match are shown.
const ALMOST: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, entry, held};

    fn facts(texts: &[&str]) -> Facts {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn id(text: &str) -> EntryId {
        text.parse().unwrap()
    }

    fn ids(standing: &Standing) -> Vec<String> {
        match standing {
            Standing::Holds(svids) => svids.ids().map(|id| id.path().to_owned()).collect(),
            other => panic!("holds nothing: {other:?}"),
        }
    }

    /// Entries `e1` (uid 1) and `e2` (uid 1, gid 2) with SVIDs until second 100.
    fn two_entries() -> (Identities, mpsc::UnboundedReceiver<EntryId>) {
        let (identities, asked) = Identities::new();
        let step = Publication {
            put: vec![entry("e1", "/a", &["unix:uid:1"]), entry("e2", "/b", &["unix:uid:1", "unix:gid:2"])],
            svids: vec![(id("e1"), held("/a", 0, 100)), (id("e2"), held("/b", 0, 100))],
            view_is_known: true,
            ..Publication::default()
        };
        identities.publish(step, at(0));
        (identities, asked)
    }

    fn follow(identities: &Identities, texts: &[&str]) -> watch::Receiver<Standing> {
        identities.follow(&facts(texts), &identities.wanted().1, at(0))
    }

    #[test]
    fn a_caller_gets_every_entry_that_matches_and_hears_of_changes_to_them() {
        let (identities, _asked) = two_entries();
        let mut one = follow(&identities, &["unix:uid:1", "unix:gid:3"]);
        let mut both = follow(&identities, &["unix:uid:1", "unix:gid:2"]);
        assert_eq!(ids(&one.borrow_and_update()), ["/a"]);
        assert_eq!(ids(&both.borrow_and_update()), ["/a", "/b"]);

        identities.publish(Publication { gone: vec![id("e2")], ..Publication::default() }, at(1));
        assert!(!one.has_changed().unwrap(), "it is told what concerns it, and nothing else");
        assert_eq!(ids(&both.borrow_and_update()), ["/a"]);

        identities.publish(Publication { gone: vec![id("e1")], ..Publication::default() }, at(1));
        assert!(matches!(*one.borrow_and_update(), Standing::Nothing));
    }

    #[test]
    fn callers_with_the_same_facts_share_one_answer() {
        let (identities, _asked) = two_entries();
        let (one, other) = (follow(&identities, &["unix:uid:1"]), follow(&identities, &["unix:uid:1"]));
        match (&*one.borrow(), &*other.borrow()) {
            (Standing::Holds(one), Standing::Holds(other)) => assert!(Arc::ptr_eq(one, other)),
            others => panic!("{others:?}"),
        };
    }

    #[test]
    fn an_entry_without_an_svid_is_asked_for_once_and_served_when_it_comes() {
        let (identities, mut asked) = two_entries();
        let put = vec![entry("e3", "/c", &["unix:uid:3"])];
        identities.publish(Publication { put, ..Publication::default() }, at(0));
        let mut caller = follow(&identities, &["unix:uid:3"]);
        follow(&identities, &["unix:uid:3", "unix:gid:9"]);
        assert!(matches!(*caller.borrow_and_update(), Standing::Preparing));
        assert_eq!(asked.try_recv(), Ok(id("e3")));
        assert!(asked.try_recv().is_err());
        let svids = vec![(id("e3"), held("/c", 0, 100))];
        identities.publish(Publication { svids, ..Publication::default() }, at(0));
        assert_eq!(ids(&caller.borrow_and_update()), ["/c"]);
    }

    #[test]
    fn what_has_expired_is_not_served_even_before_it_is_withdrawn() {
        let (identities, _asked) = two_entries();
        let first = follow(&identities, &["unix:uid:1"]);
        assert_eq!(ids(&first.borrow()), ["/a"]);
        let late = identities.follow(&facts(&["unix:uid:1"]), &identities.wanted().1, at(100));
        assert!(matches!(*late.borrow(), Standing::Preparing));
    }

    #[test]
    fn nobody_is_refused_before_the_view_is_known() {
        let (identities, _asked) = Identities::new();
        let mut caller = follow(&identities, &["unix:uid:1"]);
        assert!(matches!(*caller.borrow_and_update(), Standing::Preparing));
        identities.publish(Publication { view_is_known: true, ..Publication::default() }, at(0));
        assert!(matches!(*caller.borrow_and_update(), Standing::Nothing));
    }

    #[test]
    fn a_caller_is_identified_again_when_an_entry_asks_for_another_kind_of_fact() {
        let (identities, _asked) = two_entries();
        let (wanted, asked) = identities.wanted();
        assert!(!wanted.asks("unix", "sha256"));
        let mut caller = identities.follow(&facts(&["unix:uid:1"]), &asked, at(0));
        caller.borrow_and_update();
        let put = vec![entry("e4", "/d", &["unix:uid:9"])];
        identities.publish(Publication { put, ..Publication::default() }, at(0));
        assert!(!caller.has_changed().unwrap(), "uid was asked for already");
        let put = vec![entry("e5", "/d", &["unix:sha256:00"])];
        identities.publish(Publication { put, ..Publication::default() }, at(0));
        assert!(matches!(*caller.borrow_and_update(), Standing::Outdated));
        let stale = identities.follow(&facts(&["unix:uid:1"]), &asked, at(0));
        assert!(matches!(*stale.borrow(), Standing::Outdated), "what was proved before is not enough now");
        assert_eq!(ids(&follow(&identities, &["unix:uid:1"]).borrow()), ["/a"]);
    }

    #[test]
    fn groups_that_nobody_follows_are_forgotten_when_there_are_many() {
        let (identities, _asked) = two_entries();
        let kept = follow(&identities, &["unix:uid:1"]);
        for n in 0..3 * IDLE_GROUPS {
            follow(&identities, &["unix:uid:1", &format!("unix:path:/{n}")]);
        }
        let inner = identities.inner.lock();
        assert!(inner.groups.len() <= IDLE_GROUPS && inner.groups.contains_key(&facts(&["unix:uid:1"])));
        assert!(inner.with_fact.len() <= IDLE_GROUPS + 1);
        drop(kept);
    }

    #[test]
    fn an_administrator_learns_what_is_missing() {
        let (identities, _asked) = two_entries();
        let put = vec![entry("e6", "/f", &["unix:uid:7", "unix:gid:8"])];
        identities.publish(Publication { put, ..Publication::default() }, at(0));
        let (matches, almost) = identities.explain(&facts(&["unix:uid:1", "unix:gid:8"]));
        assert_eq!(matches.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["e1"]);
        let almost: Vec<_> =
            almost.iter().map(|(entry, missing)| (entry.id.as_str(), missing[0].as_str())).collect();
        assert_eq!(almost, [("e2", "unix:gid:2"), ("e6", "unix:uid:7")]);
    }
}
