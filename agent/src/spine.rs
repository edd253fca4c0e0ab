//! What the agent does about everything that happens: `step(now, input)` gives effects.
//!
//! No clock, randomness or I/O in here, and nothing waits. Shells turn the server's stream, timers and
//! callers into inputs and carry the effects out, in order.

mod message;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use registry::{Delta, Key, LogId, Object, Revision, Snapshot, objects::EntryId};
use spiffe::{Bundles, SpiffeId, Timestamp};

pub(crate) use self::message::{Effect, Input, Kept};

use crate::{
    alarms::Alarms,
    jitter::Seed,
    publication::{Held, MadeFor, Publication, Trusted},
    replica::{Followed, Put, Replica},
    rotation::{Rotation, renewal},
    taint::{Certified, Taint},
    tasks::governance::Governed,
};

/// The agent's state, but for keys.
#[derive(Debug)]
pub(crate) struct Spine {
    seed: Seed,
    /// For so many entries an SVID is made before anybody asks.
    prefetched: usize,
    replica: Replica,
    rotation: Rotation,
    taint: Taint,
    /// Actors whose plain SPIFFE ID is not handed out, so that no SVID is made of it.
    task_only: Arc<HashSet<SpiffeId>>,
    /// When which entry ends by itself.
    endings: Alarms,
    line: Line,
    certificate: Option<Certificate>,
    /// The bundle of its own trust domain.
    own: Option<Arc<Bundles>>,
}

/// How things stand with the server.
#[derive(Debug)]
enum Line {
    Opening { failures: u32 },
    Up,
    Down { failures: u32, again: Timestamp },
}

/// The agent's own certificate.
#[derive(Debug)]
struct Certificate {
    certified: Certified,
    /// When it is renewed; none while that is on the way.
    renew: Option<Timestamp>,
    failures: u32,
}

/// What a step comes to.
#[derive(Debug, Default)]
struct Work {
    publication: Publication,
    keep: Vec<(EntryId, Held)>,
    wipe: Vec<EntryId>,
    /// Entries that may have an SVID before anybody asks.
    prefetch: Vec<EntryId>,
    append: Option<Delta>,
    save: bool,
    verify_held: bool,
    trust: bool,
    connect: Option<From>,
}

/// From where the view is followed over a new connection.
#[derive(Debug)]
enum From {
    /// From the beginning.
    Snapshot,
    /// From where it has been followed to.
    Here,
}

impl Spine {
    /// An agent that has not started.
    pub(crate) fn new(seed: Seed, prefetched: usize) -> Self {
        Self {
            seed,
            prefetched,
            replica: Replica::default(),
            rotation: Rotation::new(seed),
            taint: Taint::default(),
            task_only: Arc::default(),
            endings: Alarms::default(),
            line: Line::Down { failures: 0, again: Timestamp::default() },
            certificate: None,
            own: None,
        }
    }

    /// What is to be done about `input`, in this order.
    pub(crate) fn step(&mut self, now: Timestamp, input: Input) -> Vec<Effect> {
        let mut work = Work::default();
        self.take(now, input, &mut work);
        self.prefetch(now, &mut work);
        self.end_what_ends(now, &mut work);
        work.publication.trusted = work.trust.then(|| self.trusted()).flatten();
        self.effects(now, work)
    }

    /// When to step again at the latest, whatever happens until then.
    pub(crate) fn wake(&self) -> Option<Timestamp> {
        let reconnect = match self.line {
            Line::Down { again, .. } => Some(again),
            _ => None,
        };
        let up = matches!(self.line, Line::Up);
        let renew = self.certificate.as_ref().and_then(|certificate| certificate.renew).filter(|_| up);
        let due = self.rotation.next_due().filter(|_| up);
        [reconnect, renew, due, self.endings.next(), self.rotation.next_end()].into_iter().flatten().min()
    }

    /// The view, to be kept.
    pub(crate) fn view(&self) -> Option<Snapshot> {
        self.replica.snapshot()
    }

    /// Up to where the view has been followed.
    pub(crate) fn position(&self) -> Option<(&LogId, Revision)> {
        self.replica.position()
    }

    /// Whether this entry is in the view.
    pub(crate) fn has(&self, entry: &EntryId) -> bool {
        self.replica.entry(entry).is_some()
    }

    /// Which node this is, by its view.
    pub(crate) fn node(&self) -> Option<&SpiffeId> {
        self.replica.node()
    }

    /// When the next SVID is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.rotation.next_due()
    }

    fn take(&mut self, now: Timestamp, input: Input, work: &mut Work) {
        match input {
            Input::Start(kept) => self.start(now, kept, work),
            Input::Connected => {
                self.line = Line::Up;
                self.rotation.hurry(now);
            }
            Input::Lost => {
                let failures = match self.line {
                    Line::Up => 1,
                    Line::Opening { failures } | Line::Down { failures, .. } => failures.saturating_add(1),
                };
                let pause = self.seed.back_off("server", failures, RECONNECT, LONGEST_RECONNECT);
                self.line = Line::Down { failures, again: now + pause };
            }
            Input::Expelled => {
                let followed = self.replica.clear();
                self.follow(now, followed, work);
            }
            Input::Delta(delta) => match self.replica.apply(delta.clone()) {
                Ok(followed) => {
                    work.append = followed.changed.then_some(delta);
                    self.follow(now, followed, work);
                }
                // What came does not continue what is known. Nothing was applied; the whole is asked for.
                Err(_) => work.connect = Some(From::Snapshot),
            },
            Input::Snapshot(snapshot) => {
                let followed = self.replica.replace(snapshot);
                work.publication.view_is_known = true;
                self.follow(now, followed, work);
            }
            Input::Bundles(bundles) => {
                self.own = Some(bundles);
                (work.trust, work.verify_held) = (true, true);
            }
            Input::Issued(issued) => {
                for (id, held) in issued {
                    if self.hold(now, &id, &held) {
                        work.keep.push((id.clone(), held.clone()));
                        work.publication.svids.push((id, held));
                    }
                }
            }
            Input::NotIssued(entries) => {
                let may: Vec<_> = entries.into_iter().filter(|id| self.may_have(id)).collect();
                for id in &may {
                    self.rotation.fail(now, id);
                }
            }
            Input::Distrusted(entries) => {
                for id in entries {
                    self.rotation.withdraw(&id);
                    if self.may_have(&id) {
                        self.rotation.want(now, &id);
                    }
                    work.withdraw(id);
                }
            }
            Input::Asked(id) => {
                let known = self.rotation.holds(&id) || self.rotation.is_expected(&id);
                if self.may_have(&id) && !known {
                    self.rotation.want(now, &id);
                }
            }
            Input::Certified(certified) => {
                let renewed = self.certificate.is_some();
                let due = match self.taint.is_on(&certified.signers) {
                    true => now,
                    false => renewal(self.seed, "agent", certified.validity),
                };
                let renew = Some(due.max(now + SHORTEST_RENEWAL));
                self.certificate = Some(Certificate { certified, renew, failures: 0 });
                // The server counts the new certificate from its first use on.
                if renewed && matches!(self.line, Line::Up) {
                    work.connect = Some(From::Here);
                }
            }
            Input::NotRenewed => {
                if let Some(certificate) = &mut self.certificate {
                    certificate.failures = certificate.failures.saturating_add(1);
                    let pause =
                        self.seed.back_off("renew", certificate.failures, RENEW_AGAIN, LONGEST_RENEW_AGAIN);
                    certificate.renew = Some(now + pause);
                }
            }
            Input::Tick => {}
        }
    }

    fn start(&mut self, now: Timestamp, kept: Kept, work: &mut Work) {
        self.own = kept.bundles;
        work.trust = true;
        if let Some(view) = kept.view.snapshot {
            let followed = self.replica.replace(view);
            self.follow(now, followed, work);
            for delta in kept.view.deltas {
                // One that does not fit was noted before a snapshot that came later and was not kept.
                let Ok(followed) = self.replica.apply(delta) else { break };
                self.follow(now, followed, work);
            }
            work.publication.view_is_known = true;
            work.save = false;
        }
        for (id, held) in kept.svids {
            match self.hold(now, &id, &held) {
                true => work.publication.svids.push((id, held)),
                false => work.wipe.push(id),
            }
        }
        if let Some(certified) = kept.certificate {
            self.take(now, Input::Certified(certified), work);
        }
    }

    /// What the view says now, of entries that are new or different, and of those that are gone.
    fn follow(&mut self, now: Timestamp, followed: Followed, work: &mut Work) {
        work.save |= followed.changed;
        work.trust |= followed.bundles;
        if followed.bundles {
            self.replace_tainted(now);
        }
        for id in followed.gone {
            self.endings.clear(&id);
            self.forget(&id);
            work.gone(id);
        }
        for Put { entry, before } in followed.put {
            let id = &entry.id;
            if entry.store_svid {
                // For an SVID store, never for a process; it may have been another kind of entry before.
                self.endings.clear(id);
                self.forget(id);
                work.gone(id.clone());
                continue;
            }
            match entry.expires_at {
                Some(at) => self.endings.set(id, at),
                None => self.endings.clear(id),
            }
            let same = before.is_some_and(|before| MadeFor::from(&*before) == MadeFor::from(&*entry));
            let known = self.rotation.holds(id) || self.rotation.is_expected(id);
            if self.task_only.contains(&entry.spiffe_id) {
                // It may have given another ID before.
                self.forget(id);
                work.withdraw(id.clone());
            } else if known && !same {
                // What is held serves until its successor is there.
                self.rotation.want(now, id);
            } else if !known && !entry.disable_x509_svid_prefetch {
                work.prefetch.push(id.clone());
            }
            work.publication.put.push(entry);
        }
        self.govern(now, followed.governed, work);
    }

    /// What decisions need, as the view says now. An actor's plain SVID goes where only its tasks have one.
    fn govern(&mut self, now: Timestamp, governed: Governed, work: &mut Work) {
        let is_of_actors = |key: &Key| matches!(key, Key::Actor(_));
        let actors = governed.gone.iter().any(is_of_actors)
            || governed.put.iter().any(|object| matches!(object, Object::Actor(_)));
        if actors {
            let (before, after) = (self.task_only.clone(), Arc::new(self.replica.task_only()));
            self.task_only = after.clone();
            for id in before.symmetric_difference(&after) {
                let givers: Vec<_> = self.replica.givers(id).map(|entry| entry.id.clone()).collect();
                for entry in givers {
                    if after.contains(id) {
                        self.forget(&entry);
                        work.withdraw(entry);
                    } else {
                        self.rotation.want(now, &entry);
                    }
                }
            }
            if before != after {
                work.publication.task_only = Some(after);
            }
        }
        let step = &mut work.publication.governed;
        step.put.retain(|object| !governed.gone.contains(&object.key())); // several steps may become one
        step.gone.extend(governed.gone);
        step.put.extend(governed.put);
    }

    /// Whether an SVID may be made and held for this entry.
    fn may_have(&self, id: &EntryId) -> bool {
        self.replica.entry(id).is_some_and(|entry| !self.task_only.contains(&entry.spiffe_id))
    }

    /// What is under an authority that is tainted now is replaced at once. It serves until then.
    fn replace_tainted(&mut self, now: Timestamp) {
        let is_own = |bundle: &&Arc<registry::objects::Bundle>| {
            self.own.as_ref().is_some_and(|own| own.get(bundle.trust_domain().as_str()).is_some())
        };
        let Some(bundle) = self.replica.bundles().find(is_own) else { return };
        for id in self.taint.spread(&bundle.tainted().x509) {
            if self.replica.entry(&id).is_some() && self.rotation.holds(&id) {
                self.rotation.want(now, &id);
            }
        }
        if let Some(Certificate { certified, renew: Some(renew), .. }) = &mut self.certificate
            && self.taint.is_on(&certified.signers)
        {
            *renew = now.min(*renew);
        }
    }

    /// Makes SVIDs before anybody asks, so that the first one who does need not wait; of a large view
    /// only for a part, and for the rest when somebody asks: most of it is never run on this node.
    fn prefetch(&mut self, now: Timestamp, work: &mut Work) {
        for id in work.prefetch.drain(..) {
            if self.rotation.len() >= self.prefetched {
                break;
            }
            // Meanwhile it may have been found among those that were kept, or be gone again.
            if self.may_have(&id) && !self.rotation.holds(&id) {
                self.rotation.want(now, &id);
            }
        }
    }

    /// Whom to trust. Of its own trust domain the agent believes what the pin vouches for; of others, what
    /// its server has in this node's view.
    fn trusted(&self) -> Option<Trusted> {
        let own = self.own.clone()?;
        let (mut all, mut tainted_jwt) = (Bundles::clone(&own), BTreeSet::new());
        for bundle in self.replica.bundles() {
            if own.get(bundle.trust_domain().as_str()).is_some() {
                tainted_jwt.clone_from(&bundle.tainted().jwt);
            } else {
                all.insert(bundle.authorities().clone());
            }
        }
        Some(Trusted { own, all, tainted_jwt })
    }

    /// An SVID has come, for an entry that may have changed or gone since it was ordered. Gives back
    /// whether it may be handed out.
    fn hold(&mut self, now: Timestamp, id: &EntryId, held: &Held) -> bool {
        if !self.may_have(id) {
            return false;
        }
        let Some(entry) = self.replica.entry(id).filter(|entry| entry.spiffe_id == held.svid.id) else {
            return false;
        };
        self.rotation.hold(now, id, held.validity, entry.expires_at);
        if held.made_for != MadeFor::from(&**entry) {
            self.rotation.want(now, id);
        }
        if self.taint.hold(id, &held.signers) {
            // It was signed before, and came after the taint.
            self.rotation.fail(now, id);
        }
        true
    }

    /// Nothing is held or wanted for this entry.
    fn forget(&mut self, id: &EntryId) {
        self.rotation.forget(id);
        self.taint.forget(id);
    }

    /// Entries and SVIDs that have ended by now.
    fn end_what_ends(&mut self, now: Timestamp, work: &mut Work) {
        for id in self.endings.take_until(now) {
            self.forget(&id);
            work.gone(id);
        }
        for id in self.rotation.take_ended(now) {
            // One that came in this very step has ended before it could be served.
            work.publication.svids.retain(|(other, _)| *other != id);
            work.keep.retain(|(other, _)| *other != id);
            work.withdraw(id);
        }
    }

    fn effects(&mut self, now: Timestamp, work: Work) -> Vec<Effect> {
        let mut effects = Vec::new();
        // What takes away must be durable before anybody can rely on it.
        effects.extend(work.append.map(Effect::Append));
        if !work.keep.is_empty() {
            effects.push(Effect::Keep(work.keep));
        }
        if !work.publication.is_empty() {
            effects.push(Effect::Publish(work.publication));
        }
        if !work.wipe.is_empty() {
            effects.push(Effect::Wipe(work.wipe));
        }
        if work.save {
            effects.push(Effect::Save);
        }
        if work.verify_held {
            effects.push(Effect::VerifyHeld);
        }
        effects.extend(self.connect(now, work.connect));
        if matches!(self.line, Line::Up) {
            effects.extend(self.renew(now));
            let due = self.rotation.take_due(now);
            let entries: Vec<_> = due.iter().filter_map(|id| self.replica.entry(id).cloned()).collect();
            effects.extend(entries.chunks(BATCH).map(|batch| Effect::Issue(batch.to_vec())));
        }
        effects
    }

    fn connect(&mut self, now: Timestamp, anew: Option<From>) -> Option<Effect> {
        let (failures, from) = match (&self.line, anew) {
            (_, Some(from)) => (0, from),
            (Line::Down { failures, again }, None) if *again <= now => (*failures, From::Here),
            _ => return None,
        };
        self.line = Line::Opening { failures };
        let here = self.replica.position().map(|(log, at)| (log.clone(), at));
        Some(Effect::Connect(here.filter(|_| matches!(from, From::Here))))
    }

    fn renew(&mut self, now: Timestamp) -> Option<Effect> {
        let certificate = self.certificate.as_mut()?;
        certificate.renew.take_if(|renew| *renew <= now && now < certificate.certified.validity.until)?;
        Some(Effect::Renew)
    }
}

impl Work {
    fn gone(&mut self, id: EntryId) {
        // It may have come in this very step.
        self.publication.put.retain(|entry| entry.id != id);
        self.wipe.push(id.clone());
        self.publication.gone.push(id);
    }

    fn withdraw(&mut self, id: EntryId) {
        self.wipe.push(id.clone());
        self.publication.withdrawn.push(id);
    }
}

/// Keys that are signed in one call.
const BATCH: usize = 500;
const RECONNECT: Duration = Duration::from_millis(200);
const LONGEST_RECONNECT: Duration = Duration::from_secs(15);
const RENEW_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_RENEW_AGAIN: Duration = Duration::from_secs(60);
const SHORTEST_RENEWAL: Duration = Duration::from_millis(500);
