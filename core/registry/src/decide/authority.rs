//! Turns of the CA's slots, of which each use has its own: prepare, activate, taint, revoke, retire. The
//! trust domain's bundle follows in the same commit, so nobody ever sees an SVID under an authority that
//! was not published before.

mod publish;

use std::time::Duration;

use serde_json::{Value, json};
use spiffe::Timestamp;

use crate::{
    commit::Change,
    decide::{Command, Decision, Moment, Refusal},
    objects::{Authority, AuthorityId, Key, Kind, Object, Slot, Use},
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
    /// Whatever this old one signed is replaced at once.
    Taint(AuthorityId),
    /// Nothing that this tainted one signed is trusted any longer.
    Revoke(AuthorityId),
    /// One that is no longer needed is gone: an old one after its last SVID, or one never used.
    Retire(AuthorityId),
}

/// The public half of a new authority.
#[derive(Clone, Debug)]
pub struct NewAuthority {
    /// Its key identifier.
    pub id: AuthorityId,
    /// What it is for.
    pub kind: Kind,
    /// First moment of its validity.
    pub not_before: Timestamp,
    /// Last moment of its validity.
    pub not_after: Timestamp,
}

/// Clocks differ a little: an old authority stays published this much longer than its last SVID.
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
            Turn::Taint(id) => self.taint(&id),
            Turn::Revoke(id) => self.revoke(&id),
            Turn::Retire(id) => self.retire(&id),
        }
    }

    fn prepare(&mut self, new: NewAuthority) -> Result<(), Refusal> {
        let NewAuthority { id, kind, not_before, not_after } = new;
        if self.tried.authority(&id).is_some() {
            return Err(Refusal::AlreadyExists(format!("authority {id} is there already")));
        }
        if let Some(other) = self.in_slot(kind.used_for(), Slot::Prepared) {
            let why = format!("authority {} is prepared already; activate or retire it first", other.id);
            return Err(Refusal::Precondition(why));
        }
        if matches!(&kind, Kind::X509 { chain } if chain.is_empty()) {
            return Err(Refusal::Invalid(format!("authority {id} has no certificate")));
        }
        self.put(Authority { id, slot: Slot::Prepared, kind, not_before, not_after });
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
        if let Some(active) = self.in_slot(next.used_for(), Slot::Active) {
            let slot = Slot::Old { retire_at: self.last_svid_ends(&active), tainted: false };
            self.put(Authority { slot, ..active });
        }
        self.put(Authority { slot: Slot::Active, ..next });
        Ok(())
    }

    fn taint(&mut self, id: &AuthorityId) -> Result<(), Refusal> {
        let authority = self.known(id)?;
        let slot = match authority.slot {
            Slot::Old { tainted: true, .. } => {
                return Err(Refusal::Precondition(format!("authority {id} is tainted already")));
            }
            Slot::Old { retire_at, .. } => Slot::Old { retire_at, tainted: true },
            Slot::Active | Slot::Prepared => return Err(not_old(&authority, "tainted")),
        };
        self.put(Authority { slot, ..authority });
        Ok(())
    }

    fn revoke(&mut self, id: &AuthorityId) -> Result<(), Refusal> {
        let authority = self.known(id)?;
        match authority.slot {
            Slot::Old { tainted: true, .. } => {}
            Slot::Old { .. } => {
                return Err(Refusal::Precondition(format!(
                    "authority {id} is not tainted; taint it first, so that what it signed is replaced"
                )));
            }
            Slot::Active | Slot::Prepared => return Err(not_old(&authority, "revoked")),
        }
        self.change(Change::Delete(Key::Authority(id.clone())));
        Ok(())
    }

    fn retire(&mut self, id: &AuthorityId) -> Result<(), Refusal> {
        let authority = self.known(id)?;
        match authority.slot {
            Slot::Active => {
                let why = format!("authority {id} is the one that signs; activate another one first");
                return Err(Refusal::Precondition(why));
            }
            Slot::Old { retire_at, .. } if self.now < retire_at => {
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

    fn known(&self, id: &AuthorityId) -> Result<Authority, Refusal> {
        let known = self.tried.authority(id).map(|authority| Authority::clone(authority));
        known.ok_or_else(|| Refusal::NotFound(format!("there is no authority {id}; see: writ status")))
    }

    fn in_slot(&self, used_for: Use, slot: Slot) -> Option<Authority> {
        let mut authorities = self.tried.authorities();
        let found = authorities.find(|authority| authority.slot == slot && authority.used_for() == used_for);
        found.map(|found| Authority::clone(found))
    }

    fn put(&mut self, object: impl Into<Object>) {
        self.change(self.tried.put_change(object));
    }

    fn change(&mut self, change: Change) {
        self.tried.set(&change);
        self.changes.push(change);
    }
}

fn not_old(authority: &Authority, done: &str) -> Refusal {
    let (id, is) = (
        &authority.id,
        match authority.slot {
            Slot::Active => "the one that signs",
            _ => "one that never signed",
        },
    );
    Refusal::Invalid(format!("only old authorities can be {done}, and authority {id} is {is}"))
}

impl Turn {
    /// The authority that turns.
    pub fn about(&self) -> &AuthorityId {
        match self {
            Self::Prepare(new) => &new.id,
            Self::Activate(id) | Self::Taint(id) | Self::Revoke(id) | Self::Retire(id) => id,
        }
    }

    fn fact(&self) -> Value {
        match self {
            Self::Prepare(new) => {
                json!({ "prepare": new.id, "use": new.kind.used_for(), "not_after": new.not_after })
            }
            Self::Activate(id) => json!({ "activate": id }),
            Self::Taint(id) => json!({ "taint": id }),
            Self::Revoke(id) => json!({ "revoke": id }),
            Self::Retire(id) => json!({ "retire": id }),
        }
    }
}
