//! Who gets what on this node, at this moment: entries and their SVIDs on one side, callers on the other.
//!
//! Callers of whom the same facts were proved form a group and share one watch channel, and with it one
//! encoded answer. A change looks up the groups that it concerns, and only those are told.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use attestors::Wanted;
use bytes::Bytes;
use parking_lot::Mutex;
use registry::objects::{Entry, EntryId};
use spiffe::{Bundles, Selector, SpiffeId, Timestamp};
use tokio::sync::{mpsc, watch};
use workload_api::{Entitled, Identity, Standing, Svids, X509Bundles, X509Svid};

use crate::{
    matching::{Almost, Facts, Index},
    publication::{Held, Publication, Trusted},
};

/// Groups that nobody follows are kept, so that callers who come again and again find theirs.
const IDLE_GROUPS: usize = 4096;

/// What is published to callers.
pub(crate) struct Identities {
    inner: Mutex<Inner>,
    /// Entries whose SVID somebody asks for and nobody has made.
    asked: mpsc::UnboundedSender<EntryId>,
}

/// What was asked for when a caller was attested, so that it is known when that no longer suffices.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    wanted: Arc<Wanted>,
    /// How often what attestors said had been taken back before.
    news: u64,
    /// Whether such news are about this caller.
    passing: bool,
}

struct Inner {
    view_is_known: bool,
    index: Index,
    /// Whose plain SPIFFE ID is not handed out: it stands for its tasks alone.
    task_only: Arc<HashSet<SpiffeId>>,
    /// What entries ask for, counted.
    wanted: Wanted,
    /// The same as it is given to attestors: it changes with the kinds of facts, not with every count.
    asking: Arc<Wanted>,
    /// How often attestors have told that something they said is no longer so.
    news: u64,
    trusted: Trusted,
    /// The same, as X509-SVIDs are handed out with them.
    x509_bundles: X509Bundles,
    svids: HashMap<EntryId, Held>,
    groups: HashMap<Facts, Group>,
    /// Groups by each of their facts.
    with_fact: HashMap<Selector, HashSet<Facts>>,
    /// Entries that were asked for and have no SVID yet.
    waited_for: HashSet<EntryId>,
}

struct Group {
    standing: watch::Sender<Standing<Svids>>,
    /// The same of its entries alone, whether there are SVIDs for them or not.
    entitled: watch::Sender<Standing<Entitled>>,
    /// What its members were attested for.
    asked: Arc<Wanted>,
    /// Whether what was proved of some of its members can change.
    passing: bool,
    /// When the first of its SVIDs ends.
    until: Option<Timestamp>,
    /// Whether some of its entries stand for tasks alone, so that its members' tasks must be looked at.
    acts: bool,
}

impl Asked {
    /// What was found can change while the process stays what it is.
    pub(crate) fn for_now(self) -> Self {
        Self { passing: true, ..self }
    }
}

/// Where a caller stands, now and after each change.
pub(crate) struct Followed {
    /// With its plain entries.
    pub(crate) standing: watch::Receiver<Standing<Svids>>,
    /// Whether it is an actor, so that it has its tasks' identities besides. If that changes, it is outdated.
    pub(crate) acts: bool,
}

impl Group {
    fn follow(&self) -> Followed {
        Followed { standing: self.standing.subscribe(), acts: self.acts }
    }

    /// Whether nobody follows it.
    fn is_idle(&self) -> bool {
        self.standing.receiver_count() == 0 && self.entitled.receiver_count() == 0
    }
}

impl Identities {
    /// Nothing is known. The receiver gets entries whose SVID is asked for.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<EntryId>) {
        let (asked, receiver) = mpsc::unbounded_channel();
        let inner = Inner {
            view_is_known: false,
            index: Index::default(),
            task_only: Arc::default(),
            wanted: Wanted::default(),
            asking: Arc::default(),
            news: 0,
            trusted: Trusted::default(),
            x509_bundles: X509Bundles::new(),
            svids: HashMap::new(),
            groups: HashMap::new(),
            with_fact: HashMap::new(),
            waited_for: HashSet::new(),
        };
        (Self { inner: Mutex::new(inner), asked }, receiver)
    }

    /// What entries ask of processes now.
    pub(crate) fn wanted(&self) -> (Arc<Wanted>, Asked) {
        let inner = self.inner.lock();
        let wanted = inner.asking.clone();
        (wanted.clone(), Asked { wanted, news: inner.news, passing: false })
    }

    /// Where callers with these facts stand, now and after each change.
    pub(crate) fn follow(&self, facts: &Facts, asked: &Asked, now: Timestamp) -> Followed {
        let mut inner = self.inner.lock();
        if !inner.still_knows(asked) {
            // An entry came meanwhile that asks for more; this caller is identified once more.
            return Followed { standing: watch::channel(Standing::Outdated).1, acts: false };
        }
        inner.join(facts, asked);
        match inner.groups.get(facts) {
            Some(group) if group.until.is_none_or(|until| now < until) => return group.follow(),
            // The clock was set, or the machine slept: the step that withdraws has not come yet.
            Some(_) => inner.tell(facts, now),
            None => inner.open(facts, asked, now),
        }
        self.ask_for(inner.unmade(facts));
        match inner.groups.get(facts) {
            Some(group) => group.follow(),
            None => Followed { standing: watch::channel(Standing::Preparing).1, acts: false },
        }
    }

    /// For which entries callers with these facts may have tokens, now and after each change.
    pub(crate) fn follow_entitled(
        &self,
        facts: &Facts,
        asked: &Asked,
        now: Timestamp,
    ) -> watch::Receiver<Standing<Entitled>> {
        let mut inner = self.inner.lock();
        if !inner.still_knows(asked) {
            return watch::channel(Standing::Outdated).1;
        }
        inner.join(facts, asked);
        if !inner.groups.contains_key(facts) {
            inner.open(facts, asked, now);
        }
        match inner.groups.get(facts) {
            Some(group) => group.entitled.subscribe(),
            None => watch::channel(Standing::Preparing).1,
        }
    }

    /// Whether more is asked for by now than when a caller was attested.
    pub(crate) fn is_outdated(&self, asked: &Asked) -> bool {
        !self.inner.lock().still_knows(asked)
    }

    /// Every entry of callers with these facts, actors' among them.
    pub(crate) fn entries(&self, facts: &Facts) -> Vec<Arc<Entry>> {
        self.inner.lock().index.matches(facts)
    }

    /// The entries that give this SPIFFE ID.
    pub(crate) fn givers(&self, id: &SpiffeId) -> Vec<Arc<Entry>> {
        self.inner.lock().index.iter().filter(|entry| entry.spiffe_id == *id).cloned().collect()
    }

    /// X.509 authorities by which members of this trust domain judge each other.
    pub(crate) fn bundles_of(&self, id: &SpiffeId) -> X509Bundles {
        let inner = self.inner.lock();
        let own = inner.x509_bundles.iter().filter(|(trust_domain, _)| id.is_in(trust_domain));
        own.map(|(trust_domain, authorities)| (trust_domain.clone(), authorities.clone())).collect()
    }

    /// The bundle of the agent's own trust domain.
    pub(crate) fn own_bundles(&self) -> Arc<Bundles> {
        self.inner.lock().trusted.own.clone()
    }

    /// Has everybody identified anew of whom something was proved that may have changed.
    pub(crate) fn doubt(&self) {
        let mut inner = self.inner.lock();
        inner.news += 1;
        inner.dissolve(|group| group.passing);
    }

    /// Makes a step visible to all whom it concerns.
    pub(crate) fn publish(&self, step: Publication, now: Timestamp) {
        let mut inner = self.inner.lock();
        let concerned = inner.apply(step);
        for facts in concerned {
            inner.tell(&facts, now);
            self.ask_for(inner.unmade(&facts));
        }
    }

    /// Wants SVIDs made for these.
    fn ask_for(&self, unmade: Vec<EntryId>) {
        for id in unmade {
            // An error means that the agent is ending.
            let _ = self.asked.send(id);
        }
    }

    /// Entries that match these facts, and some that would with a little more: each with what is missing.
    pub(crate) fn explain(&self, facts: &Facts) -> (Vec<Arc<Entry>>, Vec<Almost>) {
        let inner = self.inner.lock();
        (inner.index.matches(facts), inner.index.almost(facts))
    }

    /// Every SVID that is handed out.
    pub(crate) fn held(&self) -> Vec<(EntryId, Arc<X509Svid>)> {
        let inner = self.inner.lock();
        inner.svids.iter().map(|(id, held)| (id.clone(), held.svid.clone())).collect()
    }

    /// When the first of the SVIDs ends that are valid now.
    pub(crate) fn first_end(&self, now: Timestamp) -> Option<Timestamp> {
        let inner = self.inner.lock();
        inner.svids.values().map(|held| held.validity.until).filter(|until| now < *until).min()
    }

    /// How many entries there are, and for how many of them there is an SVID.
    pub(crate) fn count(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.index.len(), inner.svids.len())
    }
}

impl Inner {
    /// Takes a step over, and says which groups must be told.
    fn apply(&mut self, step: Publication) -> HashSet<Facts> {
        let mut concerned = HashSet::new();
        let everybody =
            step.trusted.is_some() || step.task_only.is_some() || (step.view_is_known && !self.view_is_known);
        self.view_is_known |= step.view_is_known;
        if let Some(trusted) = step.trusted {
            let bundles = trusted.all.iter();
            self.x509_bundles = bundles.map(|bundle| (bundle.trust_domain.clone(), der(bundle))).collect();
            self.trusted = trusted;
        }
        if let Some(task_only) = step.task_only {
            self.task_only = task_only;
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
        let asking = self.asking.clone();
        self.dissolve(|group| !group.asked.covers(&asking));
    }

    /// Whether nothing has come since that a caller who was attested then must be attested anew for: an entry
    /// that asks for more, or word that something is no longer so.
    fn still_knows(&self, asked: &Asked) -> bool {
        asked.wanted.covers(&self.asking) && (!asked.passing || asked.news == self.news)
    }

    /// A caller is about to follow a group, if there is one.
    fn join(&mut self, facts: &Facts, asked: &Asked) {
        if let Some(group) = self.groups.get_mut(facts) {
            group.passing |= asked.passing;
        }
    }

    /// Groups of whom too little is known are no more; who followed them is identified once more.
    fn dissolve(&mut self, is_outdated: impl Fn(&Group) -> bool) {
        let outdated = self.groups.iter().filter(|(_, group)| is_outdated(group));
        let outdated: Vec<_> = outdated.map(|(facts, _)| facts.clone()).collect();
        for facts in outdated {
            if let Some(group) = self.close(&facts) {
                group.standing.send_replace(Standing::Outdated);
                group.entitled.send_replace(Standing::Outdated);
            }
        }
    }

    /// Tells a group where it stands.
    fn tell(&mut self, facts: &Facts, now: Timestamp) {
        let acts = !self.actors(facts).is_empty();
        if self.groups.get(facts).is_some_and(|group| group.acts != acts) {
            if let Some(group) = self.close(facts) {
                group.standing.send_replace(Standing::Outdated);
                group.entitled.send_replace(Standing::Outdated);
            }
            return;
        }
        let entries = self.plain(facts);
        let (standing, until) = self.standing(&entries, now);
        let entitled = self.entitled(entries);
        if let Some(group) = self.groups.get_mut(facts) {
            group.until = until;
            group.standing.send_replace(standing);
            group.entitled.send_replace(entitled);
        }
    }

    /// The entries of callers with these facts whose SPIFFE IDs are handed out.
    fn plain(&self, facts: &Facts) -> Vec<Arc<Entry>> {
        let mut entries = self.index.matches(facts);
        entries.retain(|entry| !self.task_only.contains(&entry.spiffe_id));
        entries
    }

    /// The others: those of actors, which only their tasks have an identity for.
    fn actors(&self, facts: &Facts) -> Vec<Arc<Entry>> {
        let mut entries = self.index.matches(facts);
        entries.retain(|entry| self.task_only.contains(&entry.spiffe_id));
        entries
    }

    /// Where somebody stands who matches nothing.
    fn empty_handed<T>(&self) -> Standing<T> {
        if self.view_is_known { Standing::Nothing } else { Standing::Preparing }
    }

    fn entitled(&self, entries: Vec<Arc<Entry>>) -> Standing<Entitled> {
        if entries.is_empty() {
            return self.empty_handed();
        }
        let bundles = self.trusted.all.only(|td| {
            entries.iter().any(|entry| entry.spiffe_id.is_in(td) || entry.federates_with.contains(td))
        });
        Standing::Holds(Arc::new(Entitled::new(entries, bundles)))
    }

    fn standing(&self, entries: &[Arc<Entry>], now: Timestamp) -> (Standing<Svids>, Option<Timestamp>) {
        if entries.is_empty() {
            return (self.empty_handed(), None);
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
            .x509_bundles
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
        let unmade: Vec<_> =
            self.plain(facts).into_iter().filter(|entry| !self.svids.contains_key(&entry.id)).collect();
        unmade
            .into_iter()
            .filter(|entry| self.waited_for.insert(entry.id.clone()))
            .map(|entry| entry.id.clone())
            .collect()
    }

    fn open(&mut self, facts: &Facts, asked: &Asked, now: Timestamp) {
        if self.groups.len() >= IDLE_GROUPS {
            let idle = self.groups.iter().filter(|(_, group)| group.is_idle());
            let idle: Vec<_> = idle.map(|(facts, _)| facts.clone()).collect();
            for facts in idle {
                self.close(&facts);
            }
        }
        let acts = !self.actors(facts).is_empty();
        let entries = self.plain(facts);
        let (standing, until) = self.standing(&entries, now);
        let group = Group {
            acts,
            standing: watch::Sender::new(standing),
            entitled: watch::Sender::new(self.entitled(entries)),
            asked: asked.wanted.clone(),
            passing: asked.passing,
            until,
        };
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
