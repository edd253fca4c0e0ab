//! What the agent does about everything that happens: `step(now, input)` gives effects.
//!
//! No clock, randomness or I/O in here, and nothing waits. Shells turn the server's stream, timers and
//! callers into inputs and carry the effects out, in order.

use std::{sync::Arc, time::Duration};

use registry::{
    Delta, LogId, Revision, Snapshot,
    objects::{Entry, EntryId},
};
use spiffe::{Bundles, SpiffeId, Timestamp};

use crate::{
    alarms::Alarms,
    identities::{Held, MadeFor, Publication},
    jitter::Seed,
    replica::{Followed, Put, Replica},
    rotation::{Rotation, Validity, renewal},
    view_file::KeptView,
};

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// The agent starts, with what it kept.
    Start(Kept),
    /// A connection to the server is open, verified on both sides, and follows this node's view.
    Connected,
    /// There is no connection: it broke, or none could be made.
    Lost,
    /// The server knows this node no longer, or has banned it.
    Expelled,
    /// The view goes on.
    Delta(Delta),
    /// The view begins anew.
    Snapshot(Snapshot),
    /// The trust bundles changed; they have been verified.
    Bundles(Arc<Bundles>),
    /// SVIDs were made, signed, verified and kept.
    Issued(Vec<(EntryId, Held)>),
    /// SVIDs could not be made.
    NotIssued(Vec<EntryId>),
    /// These SVIDs do not verify any more.
    Distrusted(Vec<EntryId>),
    /// A caller needs the SVID of this entry.
    Asked(EntryId),
    /// The agent has its own certificate, or has renewed it.
    Certified(Validity),
    /// The agent's certificate could not be renewed.
    NotRenewed,
    /// Time has passed.
    Tick,
}

/// What a start finds on disk and in memory that outlived the last process.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The view.
    pub(crate) view: KeptView,
    /// The bundles.
    pub(crate) bundles: Option<Arc<Bundles>>,
    /// SVIDs with their keys.
    pub(crate) svids: Vec<(EntryId, Held)>,
    /// The agent's own certificate.
    pub(crate) certificate: Option<Validity>,
}

/// Something to be done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Open a connection in the place of any other, and follow the view from here, or from the beginning.
    Connect(Option<(LogId, Revision)>),
    /// Have an SVID made for each of these entries.
    Issue(Vec<Arc<Entry>>),
    /// Renew the agent's own certificate.
    Renew,
    /// Keep these SVIDs with their keys where keys may be kept.
    Keep(Vec<(EntryId, Held)>),
    /// Make this visible to callers.
    Publish(Publication),
    /// Wipe the keys of these entries.
    Wipe(Vec<EntryId>),
    /// Find out which SVIDs still verify.
    VerifyHeld,
    /// Note on disk that the view goes on like this.
    Append(Delta),
    /// Keep the whole view on disk, soon.
    Save,
}

/// The agent's state, but for keys.
#[derive(Debug)]
pub(crate) struct Spine {
    seed: Seed,
    replica: Replica,
    rotation: Rotation,
    /// When which entry ends by itself.
    endings: Alarms,
    line: Line,
    certificate: Option<Certificate>,
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
    validity: Validity,
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
    append: Option<Delta>,
    save: bool,
    verify_held: bool,
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
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            seed,
            replica: Replica::default(),
            rotation: Rotation::new(seed),
            endings: Alarms::default(),
            line: Line::Down { failures: 0, again: Timestamp::default() },
            certificate: None,
        }
    }

    /// What is to be done about `input`, in this order.
    pub(crate) fn step(&mut self, now: Timestamp, input: Input) -> Vec<Effect> {
        let mut work = Work::default();
        self.take(now, input, &mut work);
        self.end_what_ends(now, &mut work);
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
                work.publication.bundles = Some(bundles);
                work.verify_held = true;
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
                for id in entries.iter().filter(|id| self.replica.entry(id).is_some()) {
                    self.rotation.fail(now, id);
                }
            }
            Input::Distrusted(entries) => {
                for id in entries {
                    self.rotation.withdraw(&id);
                    if self.replica.entry(&id).is_some() {
                        self.rotation.want(now, &id);
                    }
                    work.withdraw(id);
                }
            }
            Input::Asked(id) => {
                let known = self.rotation.holds(&id) || self.rotation.is_due(&id);
                if self.replica.entry(&id).is_some() && !known {
                    self.rotation.want(now, &id);
                }
            }
            Input::Certified(validity) => {
                let renewed = self.certificate.is_some();
                let renew = renewal(self.seed, "agent", validity).max(now + SHORTEST_RENEWAL);
                self.certificate = Some(Certificate { validity, renew: Some(renew), failures: 0 });
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
        work.publication.bundles = kept.bundles;
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
        if let Some(validity) = kept.certificate {
            self.take(now, Input::Certified(validity), work);
        }
    }

    /// What the view says now, of entries that are new or different, and of those that are gone.
    fn follow(&mut self, now: Timestamp, followed: Followed, work: &mut Work) {
        work.save |= followed.changed;
        for id in followed.gone {
            self.endings.clear(&id);
            self.rotation.forget(&id);
            work.gone(id);
        }
        for Put { entry, before } in followed.put {
            let id = &entry.id;
            if entry.store_svid {
                // For an SVID store, never for a process; it may have been another kind of entry before.
                self.endings.clear(id);
                self.rotation.forget(id);
                work.gone(id.clone());
                continue;
            }
            match entry.expires_at {
                Some(at) => self.endings.set(id, at),
                None => self.endings.clear(id),
            }
            let same = before.is_some_and(|before| MadeFor::from(&*before) == MadeFor::from(&*entry));
            // What is held serves until its successor is there.
            let needed = self.rotation.holds(id) || !entry.disable_x509_svid_prefetch;
            if needed && !(same && (self.rotation.holds(id) || self.rotation.is_due(id))) {
                self.rotation.want(now, id);
            }
            work.publication.put.push(entry);
        }
    }

    /// An SVID has come, for an entry that may have changed or gone since it was ordered. Gives back
    /// whether it may be handed out.
    fn hold(&mut self, now: Timestamp, id: &EntryId, held: &Held) -> bool {
        let Some(entry) = self.replica.entry(id).filter(|entry| entry.spiffe_id == held.svid.id) else {
            return false;
        };
        self.rotation.hold(now, id, held.validity, entry.expires_at);
        if held.made_for != MadeFor::from(&**entry) {
            self.rotation.want(now, id);
        }
        true
    }

    /// Entries and SVIDs that have ended by now.
    fn end_what_ends(&mut self, now: Timestamp, work: &mut Work) {
        for id in self.endings.take_until(now) {
            self.rotation.forget(&id);
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
        certificate.renew.take_if(|renew| *renew <= now && now < certificate.validity.until)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use registry::{Object, Stored};

    use super::*;
    use crate::testing::{at, entry, held};

    fn id(text: &str) -> EntryId {
        text.parse().unwrap()
    }

    fn snapshot(at: u64, entries: &[Arc<Entry>]) -> Input {
        let objects = entries.iter().map(|e| Stored { version: 1, object: Object::Entry(e.clone()) });
        Input::Snapshot(Snapshot { log: LogId("a".into()), at: Revision(at), objects: objects.collect() })
    }

    fn delta(from: u64, put: &[Arc<Entry>], gone: &[&str]) -> Input {
        let put = put.iter().map(|e| Stored { version: 1, object: Object::Entry(e.clone()) }).collect();
        let gone = gone.iter().map(|id| format!("entry/{id}").parse().unwrap()).collect();
        let log = LogId("a".into());
        Input::Delta(Delta { log, from: Revision(from), to: Revision(from + 1), put, gone })
    }

    /// What a step comes to, in words.
    fn words(effects: &[Effect]) -> Vec<String> {
        let names =
            |ids: &mut dyn Iterator<Item = &EntryId>| ids.map(EntryId::as_str).collect::<Vec<_>>().join(",");
        effects
            .iter()
            .map(|effect| match effect {
                Effect::Connect(None) => "connect".to_owned(),
                Effect::Connect(Some((_, at))) => format!("connect from {}", at.0),
                Effect::Issue(entries) => format!("issue {}", names(&mut entries.iter().map(|e| &e.id))),
                Effect::Renew => "renew".to_owned(),
                Effect::Keep(kept) => format!("keep {}", names(&mut kept.iter().map(|(id, _)| id))),
                Effect::Publish(step) => format!(
                    "publish +{} -{} svids {} without {}",
                    names(&mut step.put.iter().map(|e| &e.id)),
                    names(&mut step.gone.iter()),
                    names(&mut step.svids.iter().map(|(id, _)| id)),
                    names(&mut step.withdrawn.iter())
                ),
                Effect::Wipe(ids) => format!("wipe {}", names(&mut ids.iter())),
                Effect::VerifyHeld => "verify held".to_owned(),
                Effect::Append(delta) => format!("append {}", delta.to.0),
                Effect::Save => "save".to_owned(),
            })
            .collect()
    }

    /// An agent that is connected and holds an SVID for `e1` from second 0 to 3600.
    fn serving() -> Spine {
        let mut spine = Spine::new(Seed(1));
        assert_eq!(words(&spine.step(at(0), Input::Start(Kept::default()))), ["connect"]);
        assert_eq!(words(&spine.step(at(0), Input::Connected)), [""; 0]);
        let effects = spine.step(at(0), snapshot(1, &[entry("e1", "/a", &["unix:uid:1"])]));
        assert_eq!(words(&effects), ["publish +e1 - svids  without ", "save", "issue e1"]);
        let effects = spine.step(at(0), Input::Issued(vec![(id("e1"), held("/a", 0, 3600))]));
        assert_eq!(words(&effects), ["keep e1", "publish + - svids e1 without "]);
        spine
    }

    #[test]
    fn an_entry_change_is_published_and_a_missing_key_is_made() {
        let mut spine = serving();
        let effects = spine.step(at(1), delta(1, &[entry("e2", "/b", &["unix:uid:2"])], &[]));
        assert_eq!(words(&effects), ["append 2", "publish +e2 - svids  without ", "save", "issue e2"]);
        let effects = spine.step(at(2), delta(2, &[], &["e1"]));
        assert_eq!(words(&effects), ["append 3", "publish + -e1 svids  without ", "wipe e1", "save"]);
    }

    #[test]
    fn other_selectors_need_no_other_svid_and_another_name_does() {
        let mut spine = serving();
        let effects = spine.step(at(1), delta(1, &[entry("e1", "/a", &["unix:uid:9"])], &[]));
        assert_eq!(words(&effects), ["append 2", "publish +e1 - svids  without ", "save"]);
        let effects = spine.step(at(1), delta(2, &[entry("e1", "/z", &["unix:uid:9"])], &[]));
        assert_eq!(words(&effects), ["append 3", "publish +e1 - svids  without ", "save", "issue e1"]);
        // An SVID that was ordered for the old name arrives now, and then the right one.
        assert_eq!(words(&spine.step(at(1), Input::Issued(vec![(id("e1"), held("/a", 0, 3600))]))), [""; 0]);
        let effects = spine.step(at(1), Input::Issued(vec![(id("e1"), held("/z", 1, 3601))]));
        assert_eq!(words(&effects), ["keep e1", "publish + - svids e1 without "]);
    }

    #[test]
    fn changes_that_do_not_continue_the_view_are_not_applied_and_the_whole_is_asked_for() {
        let mut spine = serving();
        assert_eq!(words(&spine.step(at(1), delta(7, &[], &["e1"]))), ["connect"]);
        assert_eq!(spine.position().unwrap().1, Revision(1));
    }

    #[test]
    fn a_lost_server_is_looked_for_again_and_its_orders_wait() {
        let mut spine = serving();
        assert_eq!(words(&spine.step(at(10), Input::Lost)), [""; 0]);
        let first = spine.wake().unwrap();
        assert!(first > at(10) && first <= at(10) + RECONNECT);
        assert_eq!(words(&spine.step(first, Input::Tick)), ["connect from 1"]);
        spine.step(first, Input::Lost);
        assert!(spine.wake().unwrap().since(first) <= RECONNECT * 2);
        // Half of the life has passed: nothing can be renewed, and what is held is served.
        let later = at(2500);
        assert_eq!(words(&spine.step(later, Input::Tick)), ["connect from 1"]);
        assert_eq!(words(&spine.step(later, Input::Connected)), ["issue e1"]);
    }

    #[test]
    fn what_expires_is_withdrawn_and_wiped_also_without_a_server() {
        let mut spine = serving();
        spine.step(at(10), Input::Lost);
        spine.step(at(3599), Input::Tick);
        assert_eq!(spine.wake(), Some(at(3600)));
        let effects = words(&spine.step(at(3600), Input::Tick));
        assert_eq!(effects, ["publish + - svids  without e1", "wipe e1"]);
        assert!(!spine.rotation.holds(&id("e1")));
    }

    #[test]
    fn an_entry_ends_by_itself_with_the_server_away() {
        let mut spine = serving();
        let mut short = Arc::unwrap_or_clone(entry("e2", "/b", &["unix:uid:2"]));
        short.expires_at = Some(at(60));
        spine.step(at(1), delta(1, &[Arc::new(short)], &[]));
        spine.step(at(2), Input::Lost);
        let effects = words(&spine.step(at(60), Input::Tick));
        assert!(effects.contains(&"publish + -e2 svids  without ".to_owned()), "{effects:?}");
    }

    #[test]
    fn what_was_kept_is_served_before_the_server_is_found() {
        let mut spine = Spine::new(Seed(1));
        let entries = [entry("e1", "/a", &["unix:uid:1"]), entry("e9", "/gone", &["unix:uid:1"])];
        let Input::Snapshot(view) = snapshot(5, &entries) else { return };
        let Input::Delta(went) = delta(5, &[], &["e9"]) else { return };
        let kept = Kept {
            view: KeptView { snapshot: Some(view), deltas: vec![went] },
            svids: vec![(id("e1"), held("/a", 0, 3600)), (id("e9"), held("/gone", 0, 3600))],
            ..Kept::default()
        };
        let effects = spine.step(at(100), Input::Start(kept));
        assert_eq!(words(&effects), ["publish +e1 -e9 svids e1 without ", "wipe e9,e9", "connect from 6"]);
        assert_eq!(words(&spine.step(at(101), Input::Connected)), [""; 0], "nothing needs to be made");
    }

    #[test]
    fn the_agents_own_certificate_is_renewed_at_half_of_its_life_and_then_used() {
        let mut spine = serving();
        spine.step(at(0), Input::Certified(Validity { from: at(0), until: at(1000) }));
        let renewal = spine.wake().unwrap();
        assert!((450..=550).contains(&renewal.since(at(0)).as_secs()));
        assert_eq!(words(&spine.step(renewal, Input::Tick)), ["renew"]);
        assert_eq!(words(&spine.step(renewal, Input::Tick)), [""; 0], "it is on the way");
        spine.step(renewal, Input::NotRenewed);
        let again = spine.wake().unwrap();
        assert!(again > renewal && again <= renewal + RENEW_AGAIN);
        assert_eq!(words(&spine.step(again, Input::Tick)), ["renew"]);
        let certified = Input::Certified(Validity { from: again, until: again + Duration::from_secs(1000) });
        assert_eq!(words(&spine.step(again, certified)), ["connect from 1"]);
    }

    #[test]
    fn an_expelled_node_has_nothing_to_hand_out() {
        let mut spine = serving();
        let effects = words(&spine.step(at(5), Input::Expelled));
        assert_eq!(effects, ["publish + -e1 svids  without ", "wipe e1", "save"]);
        assert!(!spine.rotation.holds(&id("e1")) && spine.position().is_none());
        assert!(spine.view().is_none());
    }

    #[test]
    fn an_svid_whose_authority_is_gone_is_withdrawn_and_made_anew() {
        let mut spine = serving();
        assert_eq!(
            words(&spine.step(at(5), Input::Bundles(Arc::default()))),
            ["publish + - svids  without ", "verify held"]
        );
        let effects = words(&spine.step(at(5), Input::Distrusted(vec![id("e1")])));
        assert_eq!(effects, ["publish + - svids  without e1", "wipe e1", "issue e1"]);
    }

    #[test]
    fn an_svid_on_demand_is_made_when_somebody_asks() {
        let mut spine = serving();
        let mut lazy = Arc::unwrap_or_clone(entry("e2", "/b", &["unix:uid:2"]));
        lazy.disable_x509_svid_prefetch = true;
        let effects = spine.step(at(1), delta(1, &[Arc::new(lazy)], &[]));
        assert_eq!(words(&effects), ["append 2", "publish +e2 - svids  without ", "save"]);
        assert_eq!(words(&spine.step(at(1), Input::Asked(id("e2")))), ["issue e2"]);
    }
}
