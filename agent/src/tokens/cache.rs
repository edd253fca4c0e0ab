//! Tokens at hand, and what is to be done about them: pure, and takes `now`.
//!
//! A token is renewed at half of its life if somebody asked for it in that life; else it is had again
//! when somebody asks. What could not be renewed is served until it ends, and tried again, more and
//! more rarely. There is room for so many tokens; when it is full, the entry that has most of them loses
//! those that were asked for longest ago.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use registry::objects::{Entry, EntryId};
use spiffe::{Audiences, SpiffeId, Timestamp};

use crate::{
    alarms::Alarms,
    jitter::Seed,
    rotation::{Validity, renewal},
};

/// A token as the server signed it and this agent verified it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Token {
    /// JWS in compact serialisation.
    pub(crate) text: Arc<str>,
    /// The name of the key that signed it.
    pub(crate) kid: String,
    /// Its life, as far as it lies ahead.
    pub(crate) validity: Validity,
}

/// Which token.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    /// Of which entry.
    pub(super) entry: EntryId,
    /// For whom.
    pub(super) audiences: Audiences,
}

/// What there is for somebody who asks.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum AtHand {
    /// This one.
    Good(Arc<str>),
    /// This one, which had better be replaced first.
    Stale(Arc<str>),
    /// None.
    Nothing,
}

/// Tokens at hand.
#[derive(Debug)]
pub(super) struct Cache {
    seed: Seed,
    room: usize,
    entries: HashMap<EntryId, HashMap<Audiences, Slot>>,
    count: usize,
    /// When something is due for a token: its renewal or its end.
    alarms: Alarms<Key>,
    /// Counts questions, so that it is known which tokens were asked for longest ago.
    questions: u64,
}

#[derive(Debug)]
struct Slot {
    token: Token,
    entry: Arc<Entry>,
    /// The first moment at which it had better be replaced.
    due: Timestamp,
    /// Whether its successor is on the way.
    flying: bool,
    failures: u32,
    /// Whether somebody has asked for it since it was made.
    asked: bool,
    last_question: u64,
}

impl Cache {
    /// Room for so many tokens.
    pub(super) fn new(seed: Seed, room: usize) -> Self {
        Self { seed, room, entries: HashMap::new(), count: 0, alarms: Alarms::default(), questions: 0 }
    }

    /// Somebody wants a token of this entry.
    pub(super) fn ask(&mut self, now: Timestamp, entry: &Arc<Entry>, audiences: &Audiences) -> AtHand {
        self.questions += 1;
        let slot = self.entries.get_mut(&entry.id).and_then(|slots| slots.get_mut(audiences));
        let Some(slot) = slot.filter(|slot| is_made_alike(&slot.entry, entry)) else {
            return AtHand::Nothing;
        };
        if now >= slot.token.validity.until {
            return AtHand::Nothing;
        }
        (slot.asked, slot.last_question) = (true, self.questions);
        let token = slot.token.text.clone();
        if slot.flying || now < slot.due { AtHand::Good(token) } else { AtHand::Stale(token) }
    }

    /// The successor of this token is on the way, if there is such a token.
    pub(super) fn fly(&mut self, key: &Key) {
        if let Some(slot) = self.slot(key) {
            slot.flying = true;
        }
    }

    /// There is a new token.
    pub(super) fn hold(&mut self, now: Timestamp, key: Key, entry: &Arc<Entry>, token: Token) {
        let Validity { until, .. } = token.validity;
        // What ends with its entry could not be renewed.
        let is_last = entry.expires_at.is_some_and(|last| until + PRECISION >= last);
        let due = match is_last {
            true => until,
            false => renewal(self.seed, key.entry.as_str(), token.validity),
        };
        self.questions += 1;
        let slot = Slot {
            token,
            entry: entry.clone(),
            due,
            flying: false,
            failures: 0,
            asked: false,
            last_question: self.questions,
        };
        self.alarms.set(&key, due.max(now + SHORTEST));
        let slots = self.entries.entry(key.entry).or_default();
        if slots.insert(key.audiences, slot).is_none() {
            self.count += 1;
        }
        if self.count > self.room {
            self.make_room();
        }
    }

    /// The token could not be had. The one at hand, if there is one, is served on.
    pub(super) fn fail(&mut self, now: Timestamp, key: &Key) {
        let seed = self.seed;
        let Some(slot) = self.slot(key) else { return };
        slot.failures = slot.failures.saturating_add(1);
        slot.flying = false;
        slot.due = now + seed.back_off(key.entry.as_str(), slot.failures, RETRY, LONGEST_RETRY);
        let next = slot.due.min(slot.token.validity.until);
        self.alarms.set(key, next);
    }

    /// Whatever waits for another try is tried now: what made it fail is gone.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        self.renew_where(now, |slot| slot.failures > 0);
    }

    /// Tokens that these keys signed are replaced at once, and those of keys that are not `trusted` any
    /// more are not handed out again.
    pub(super) fn distrust(&mut self, now: Timestamp, tainted: &BTreeSet<String>, trusted: &BTreeSet<&str>) {
        self.remove_where(|slot| !trusted.contains(slot.token.kid.as_str()));
        self.renew_where(now, |slot| tainted.contains(&slot.token.kid));
    }

    /// The entry is gone, or is another one now.
    pub(super) fn follow(&mut self, id: &EntryId, now_is: Option<&Entry>) {
        let Some(slots) = self.entries.get(id) else { return };
        let unlike = |slot: &&Slot| now_is.is_none_or(|entry| !is_made_alike(&slot.entry, entry));
        if slots.values().find(unlike).is_some()
            && let Some(slots) = self.entries.remove(id)
        {
            self.count -= slots.len();
            for audiences in slots.into_keys() {
                self.alarms.clear(&Key { entry: id.clone(), audiences });
            }
        }
    }

    /// Takes the tokens to be renewed now, and forgets those that have ended.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<(Key, Arc<Entry>)> {
        let mut due = Vec::new();
        for key in self.alarms.take_until(now) {
            let Some(slot) = self.slot(&key) else { continue };
            let until = slot.token.validity.until;
            if now >= until {
                self.remove(&key);
                continue;
            }
            if slot.asked && !slot.flying && slot.due <= now {
                slot.flying = true;
                due.push((key.clone(), slot.entry.clone()));
            }
            self.alarms.set(&key, until);
        }
        due
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.alarms.next()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn slot(&mut self, key: &Key) -> Option<&mut Slot> {
        self.entries.get_mut(&key.entry)?.get_mut(&key.audiences)
    }

    fn remove(&mut self, key: &Key) {
        self.alarms.clear(key);
        let Some(slots) = self.entries.get_mut(&key.entry) else { return };
        if slots.remove(&key.audiences).is_some() {
            self.count -= 1;
        }
        if slots.is_empty() {
            self.entries.remove(&key.entry);
        }
    }

    fn keys_where(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<Key> {
        let of = |(entry, slots): (&EntryId, &HashMap<Audiences, Slot>)| {
            let wanted = slots.iter().filter(|(_, slot)| wanted(slot));
            let key = |(audiences, _): (&Audiences, &Slot)| Key {
                entry: entry.clone(),
                audiences: audiences.clone(),
            };
            wanted.map(key).collect::<Vec<_>>()
        };
        self.entries.iter().flat_map(of).collect()
    }

    fn remove_where(&mut self, wanted: impl Fn(&Slot) -> bool) {
        for key in self.keys_where(wanted) {
            self.remove(&key);
        }
    }

    fn renew_where(&mut self, now: Timestamp, wanted: impl Fn(&Slot) -> bool) {
        for key in self.keys_where(|slot| wanted(slot) && !slot.flying) {
            if let Some(slot) = self.slot(&key) {
                (slot.due, slot.asked, slot.failures) = (now, true, 0);
                self.alarms.set(&key, now);
            }
        }
    }

    /// An eighth of the largest entry's tokens, so that this is not done for each one that comes.
    fn make_room(&mut self) {
        let Some((id, slots)) = self.entries.iter().max_by_key(|(_, slots)| slots.len()) else { return };
        let id = id.clone();
        let mut oldest: Vec<_> =
            slots.iter().map(|(audiences, slot)| (slot.last_question, audiences)).collect();
        oldest.sort_unstable_by_key(|(last_question, _)| *last_question);
        oldest.truncate(slots.len().div_ceil(8));
        let oldest: Vec<_> = oldest.into_iter().map(|(_, audiences)| audiences.clone()).collect();
        for audiences in oldest {
            self.remove(&Key { entry: id.clone(), audiences });
        }
    }
}

/// Whether tokens of both would say the same: what of an entry goes into its tokens.
pub(super) fn is_made_alike(one: &Entry, other: &Entry) -> bool {
    fn of(entry: &Entry) -> (&SpiffeId, u32, Option<Timestamp>, bool) {
        (&entry.spiffe_id, entry.jwt_svid_ttl, entry.expires_at, entry.jwt_svid_include_jti)
    }
    std::ptr::eq(one, other) || of(one) == of(other)
}

/// Tokens count seconds.
const PRECISION: Duration = Duration::from_secs(1);
/// However short a life is, its renewal is no busy loop.
const SHORTEST: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
