//! Turns of the CA's slots: prepare, activate, retire. The trust domain's bundle follows in the same
//! commit, so nobody ever sees an SVID under a root that was not published before.

use std::time::Duration;

use rustls_pki_types::CertificateDer as Certificate;
use serde_json::{Value, json};
use spiffe::{Timestamp, bundle};

use crate::{
    commit::Change,
    decide::{Command, Decision, Moment, Refusal},
    objects::{Authority, AuthorityId, Bundle, Key, Object, Slot, authority::CertificateDer},
    registry::Registry,
};

/// Turns slots, all of them or none.
#[derive(Clone, Debug)]
pub struct TurnAuthorities {
    /// In this order; each sees those before it.
    pub turns: Vec<Turn>,
}

/// What becomes of one authority.
#[derive(Clone, Debug)]
pub enum Turn {
    /// A new one is published, so that everyone knows it before it signs.
    Prepare(NewAuthority),
    /// The prepared one signs from now on; the one that did becomes old.
    Activate(AuthorityId),
    /// One that is no longer needed is gone: an old one after its last SVID, or one never used.
    Retire(AuthorityId),
}

/// The certificates of a new authority.
#[derive(Clone, Debug)]
pub struct NewAuthority {
    /// Its subject key identifier.
    pub id: AuthorityId,
    /// See [`Authority::chain`].
    pub chain: Vec<CertificateDer>,
    /// First moment of its certificate's validity.
    pub not_before: Timestamp,
    /// Last moment of its certificate's validity.
    pub not_after: Timestamp,
}

/// How often others should look for changes of the bundle (SPIRE's five minutes).
const REFRESH_HINT_SECONDS: u64 = 300;
/// Clocks differ a little: an old root stays published this much longer than its last SVID.
const LEEWAY: Duration = Duration::from_secs(10);

impl Command for TurnAuthorities {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let facts = json!({ "turns": self.turns.iter().map(Turn::fact).collect::<Vec<_>>() });
        let mut turning = Turning { tried: registry.clone(), changes: Vec::new(), now: moment.now };
        let turned = self.turns.into_iter().try_for_each(|turn| turning.turn(turn));
        match turned.and_then(|()| turning.publish()) {
            Ok(()) => Decision::done("authority.turn", facts, turning.changes, ()),
            Err(refusal) => Decision::refused("authority.turn", facts, refusal),
        }
    }
}

struct Turning {
    /// The registry with the turns so far.
    tried: Registry,
    changes: Vec<Change>,
    now: Timestamp,
}

impl Turning {
    fn turn(&mut self, turn: Turn) -> Result<(), Refusal> {
        match turn {
            Turn::Prepare(new) => self.prepare(new),
            Turn::Activate(id) => self.activate(&id),
            Turn::Retire(id) => self.retire(&id),
        }
    }

    fn prepare(&mut self, new: NewAuthority) -> Result<(), Refusal> {
        let NewAuthority { id, chain, not_before, not_after } = new;
        if self.tried.authority(&id).is_some() {
            return Err(Refusal::AlreadyExists(format!("authority {id} is there already")));
        }
        if let Some(other) = self.in_slot(|slot| slot == Slot::Prepared) {
            let why = format!("authority {} is prepared already; activate or retire it first", other.id);
            return Err(Refusal::Precondition(why));
        }
        if chain.is_empty() {
            return Err(Refusal::Invalid(format!("authority {id} has no certificate")));
        }
        self.put(Authority { id, slot: Slot::Prepared, chain, not_before, not_after });
        Ok(())
    }

    fn activate(&mut self, id: &AuthorityId) -> Result<(), Refusal> {
        let next = self.known(id)?;
        if next.slot != Slot::Prepared {
            return Err(Refusal::Precondition(format!("authority {id} is not prepared")));
        }
        if self.now < next.not_before || next.not_after <= self.now {
            let (from, to) = (next.not_before, next.not_after);
            return Err(Refusal::Precondition(format!(
                "authority {id} is valid from {from} to {to}, not now"
            )));
        }
        if let Some(active) = self.in_slot(|slot| slot == Slot::Active) {
            let retire_at = self.last_svid_ends(&active);
            self.put(Authority { slot: Slot::Old { retire_at }, ..active });
        }
        self.put(Authority { slot: Slot::Active, ..next });
        Ok(())
    }

    fn retire(&mut self, id: &AuthorityId) -> Result<(), Refusal> {
        let authority = self.known(id)?;
        match authority.slot {
            Slot::Active => {
                let why = format!("authority {id} is the one that signs; activate another one first");
                return Err(Refusal::Precondition(why));
            }
            Slot::Old { retire_at } if self.now < retire_at => {
                let why = format!("SVIDs of authority {id} may live until {retire_at}; retire it then");
                return Err(Refusal::Precondition(why));
            }
            Slot::Old { .. } | Slot::Prepared => {}
        }
        self.change(Change::Delete(Key::Authority(id.clone())));
        Ok(())
    }

    /// When the last SVID that `authority` may have signed ends. The configuration may have been
    /// another one when it was made, so its own length counts too.
    fn last_svid_ends(&self, authority: &Authority) -> Timestamp {
        let longest = self.tried.settings().longest_svid_ttl();
        let longest = longest.max(authority.not_after.since(authority.not_before) / 6);
        (self.now + longest + LEEWAY).min(authority.not_after)
    }

    /// Puts the roots of all slots into the bundle; where they are the same, it stays as it is.
    fn publish(&mut self) -> Result<(), Refusal> {
        let mut authorities: Vec<&Authority> = self.tried.authorities().map(|known| &*known.value).collect();
        authorities.sort_by_key(|authority| (authority.not_before, &authority.id));
        let mut roots: Vec<Certificate<'static>> = Vec::new();
        for root in authorities.iter().filter_map(|authority| authority.chain.last()) {
            let root = Certificate::from(root.0.to_vec());
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        let trust_domain = self.tried.trust_domain();
        let old = self.tried.bundle(trust_domain).map(|bundle| bundle.authorities().clone());
        let old = old.unwrap_or_else(|| bundle::Bundle::empty(trust_domain.clone()));
        if old.x509_authorities == roots {
            return Ok(());
        }
        let published = bundle::Bundle {
            x509_authorities: roots,
            sequence: Some(old.sequence.unwrap_or(0) + 1),
            refresh_hint: Some(REFRESH_HINT_SECONDS),
            ..old
        };
        let bundle = Bundle::new(published)
            .map_err(|error| Refusal::Invalid(format!("the bundle cannot hold this authority: {error}")))?;
        self.put(bundle);
        Ok(())
    }

    fn known(&self, id: &AuthorityId) -> Result<Authority, Refusal> {
        let known = self.tried.authority(id).map(|authority| Authority::clone(authority));
        known.ok_or_else(|| Refusal::NotFound(format!("there is no authority {id}; see: writ status")))
    }

    fn in_slot(&self, wanted: impl Fn(Slot) -> bool) -> Option<Authority> {
        self.tried.authorities().find(|authority| wanted(authority.slot)).map(|found| Authority::clone(found))
    }

    fn put(&mut self, object: impl Into<Object>) {
        self.change(self.tried.put_change(object));
    }

    fn change(&mut self, change: Change) {
        self.tried.set(&change);
        self.changes.push(change);
    }
}

impl Turn {
    fn fact(&self) -> Value {
        match self {
            Self::Prepare(new) => json!({ "prepare": new.id, "not_after": new.not_after }),
            Self::Activate(id) => json!({ "activate": id }),
            Self::Retire(id) => json!({ "retire": id }),
        }
    }
}
