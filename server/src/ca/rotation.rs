//! When authorities turn. Pure: what is there and the time come in, what is due goes out.
//!
//! A new authority is prepared, hence published, when half of the active one's life is over; it takes
//! over when one sixth is left; the old one stays published until the last SVID under it has ended.
//! Authorities for certificates and for tokens turn alike, each use by itself.

use std::{collections::HashSet, time::Duration};

use registry::objects::{Authority, AuthorityId, Slot, Use};
use spiffe::Timestamp;

/// The next is prepared at the latest this long before the active authority ends.
const PREPARE_AT_MOST: Duration = Duration::from_secs(30 * 24 * 3600);
/// The next takes over at the latest this long before the active authority ends.
const ACTIVATE_AT_MOST: Duration = Duration::from_secs(7 * 24 * 3600);

/// One step of an authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Make an authority and publish it.
    Prepare(Use),
    /// Let this prepared authority sign from now on; the active one becomes old.
    Activate(AuthorityId),
    /// Publish this authority no more.
    Retire(AuthorityId),
}

/// What is due at `now`, the first step only: after it the situation is another. `keys` are the
/// authorities whose key is here, which after a restart with keys in memory are none.
pub(crate) fn due(authorities: &[&Authority], keys: &HashSet<AuthorityId>, now: Timestamp) -> Option<Step> {
    let in_use = Use::ALL.into_iter().find_map(|used_for| {
        let slots = Slots::of(used_for, authorities);
        slots.due(&|authority| keys.contains(&authority.id) && now < authority.not_after, now)
    });
    in_use.or_else(|| {
        let over = authorities.iter().find(|authority| now >= retire_at(authority))?;
        Some(Step::Retire(over.id.clone()))
    })
}

/// The slots of one use, but for the old ones.
struct Slots<'a> {
    used_for: Use,
    active: Option<&'a Authority>,
    prepared: Option<&'a Authority>,
}

impl<'a> Slots<'a> {
    fn of(used_for: Use, authorities: &[&'a Authority]) -> Self {
        let mut own = authorities.iter().copied().filter(|authority| authority.used_for() == used_for);
        let active = own.clone().find(|authority| authority.slot == Slot::Active);
        Self { used_for, active, prepared: own.find(|authority| authority.slot == Slot::Prepared) }
    }

    fn due(&self, usable: &dyn Fn(&Authority) -> bool, now: Timestamp) -> Option<Step> {
        match (self.active.filter(|active| usable(active)), self.prepared) {
            // There is one place for a prepared authority, and one that cannot sign must not hold it.
            (_, Some(prepared)) if !usable(prepared) => Some(Step::Retire(prepared.id.clone())),
            (None, None) => Some(Step::Prepare(self.used_for)),
            (None, Some(prepared)) => Some(Step::Activate(prepared.id.clone())),
            (Some(active), None) if now >= prepare_at(active) => Some(Step::Prepare(self.used_for)),
            (Some(active), Some(prepared)) if now >= activate_at(active) => {
                Some(Step::Activate(prepared.id.clone()))
            }
            (Some(_), _) => None,
        }
    }

    fn next(&self) -> Option<Timestamp> {
        let step = match (self.active, self.prepared) {
            (Some(active), Some(_)) => Some(activate_at(active)),
            (Some(active), None) => Some(prepare_at(active)),
            (None, _) => None,
        };
        step.into_iter().chain(self.prepared.map(|prepared| prepared.not_after)).min()
    }
}

/// When the next step is due after the ones that are due now: nobody needs to look before.
pub(crate) fn next(authorities: &[&Authority]) -> Option<Timestamp> {
    let turns = Use::ALL.into_iter().filter_map(|used_for| Slots::of(used_for, authorities).next());
    let ends = authorities.iter().filter(|authority| matches!(authority.slot, Slot::Old { .. }));
    turns.chain(ends.map(|old| retire_at(old))).min()
}

/// An old authority is done when the last SVID under it has ended.
fn retire_at(authority: &Authority) -> Timestamp {
    match authority.slot {
        Slot::Old { retire_at, .. } => retire_at,
        Slot::Prepared | Slot::Active => Timestamp::from_unix_millis(i64::MAX),
    }
}

fn prepare_at(active: &Authority) -> Timestamp {
    active.not_after.before((life(active) / 2).min(PREPARE_AT_MOST))
}

fn activate_at(active: &Authority) -> Timestamp {
    active.not_after.before((life(active) / 6).min(ACTIVATE_AT_MOST))
}

fn life(authority: &Authority) -> Duration {
    authority.not_after.since(authority.not_before)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use registry::objects::{Kind, authority::Der};

    use super::*;

    const LIFE: u64 = 6000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }

    fn authority(id: &str, slot: Slot, from: u64) -> Authority {
        let (id, kind) = (id.parse().unwrap(), Kind::X509 { chain: vec![] });
        Authority { id, slot, kind, not_before: at(from), not_after: at(from + LIFE) }
    }

    /// One for tokens, for which nothing is due.
    fn quiet() -> Authority {
        let kind = Kind::Jwt { public_key: Der(Default::default()) };
        Authority { kind, not_after: at(1000 * LIFE), ..authority("ff", Slot::Active, 0) }
    }

    fn old(retire_at: u64) -> Slot {
        Slot::Old { retire_at: at(retire_at), tainted: false }
    }

    fn step(authorities: &[Authority], now: u64) -> Option<Step> {
        let quiet = quiet();
        let authorities: Vec<_> = authorities.iter().chain([&quiet]).collect();
        let all = authorities.iter().map(|authority| authority.id.clone()).collect();
        due(&authorities, &all, at(now))
    }

    fn id(id: &str) -> AuthorityId {
        id.parse().unwrap()
    }

    #[test]
    fn the_first_authority_is_prepared_and_signs_at_once() {
        assert_eq!(step(&[], 0), Some(Step::Prepare(Use::X509)));
        assert_eq!(step(&[authority("aa", Slot::Prepared, 0)], 0), Some(Step::Activate(id("aa"))));
    }

    #[test]
    fn the_next_is_prepared_at_half_life_and_takes_over_with_a_sixth_left() {
        let active = authority("aa", Slot::Active, 0);
        assert_eq!(step(from_ref(&active), 2999), None);
        assert_eq!(step(from_ref(&active), 3000), Some(Step::Prepare(Use::X509)));
        let both = [active, authority("bb", Slot::Prepared, 3000)];
        assert_eq!(step(&both, 4999), None);
        assert_eq!(step(&both, 5000), Some(Step::Activate(id("bb"))));
    }

    #[test]
    fn an_old_authority_is_published_until_the_last_svid_under_it_has_ended() {
        let authorities = [authority("aa", old(5600), 0), authority("bb", Slot::Active, 3000)];
        assert_eq!(step(&authorities, 5599), None);
        assert_eq!(step(&authorities, 5600), Some(Step::Retire(id("aa"))));
    }

    #[test]
    fn an_authority_whose_key_is_lost_gives_way_at_once() {
        let lost = [quiet(), authority("aa", Slot::Active, 0), authority("bb", Slot::Prepared, 0)];
        let lost: Vec<_> = lost.iter().collect();
        let keys = |ids: &[&str]| ids.iter().map(|text| id(text)).collect::<HashSet<_>>();
        assert_eq!(due(&lost, &keys(&["bb", "ff"]), at(1)), Some(Step::Activate(id("bb"))));
        assert_eq!(due(&lost, &keys(&["ff"]), at(1)), Some(Step::Retire(id("bb"))));
        assert_eq!(due(&lost[..2], &keys(&["ff"]), at(1)), Some(Step::Prepare(Use::X509)));
    }

    #[test]
    fn after_a_sleep_over_its_end_an_authority_gives_way() {
        let active = authority("aa", Slot::Active, 0);
        assert_eq!(step(from_ref(&active), LIFE), Some(Step::Prepare(Use::X509)));
        let both = [active, authority("bb", Slot::Prepared, 3000)];
        assert_eq!(step(&both, LIFE + 1), Some(Step::Activate(id("bb"))));
    }

    #[test]
    fn authorities_for_tokens_turn_by_themselves() {
        let x509 = Authority { not_after: at(1000 * LIFE), ..authority("aa", Slot::Active, 0) };
        let tokens = Authority { not_after: at(LIFE), ..quiet() };
        let mut all = vec![&x509, &tokens];
        let keys = all.iter().map(|authority| authority.id.clone()).collect();
        assert_eq!(due(&all[..1], &keys, at(0)), Some(Step::Prepare(Use::Jwt)), "a log that has none yet");
        assert_eq!(due(&all, &keys, at(2999)), None);
        assert_eq!(next(&all), Some(at(3000)));
        assert_eq!(due(&all, &keys, at(3000)), Some(Step::Prepare(Use::Jwt)));
        let unknown = Authority { id: id("dd"), slot: Slot::Prepared, ..quiet() };
        all.push(&unknown);
        assert_eq!(due(&all, &keys, at(3000)), Some(Step::Retire(id("dd"))), "its key is not here");
    }

    #[test]
    fn nobody_needs_to_look_before_the_next_step() {
        let mut authorities = vec![authority("aa", Slot::Active, 0)];
        for expected in [3000, 5000] {
            let seen: Vec<_> = authorities.iter().collect();
            let next = next(&seen).unwrap();
            assert_eq!(next, at(expected));
            assert_eq!(step(&authorities, expected - 1), None);
            assert!(step(&authorities, expected).is_some());
            authorities.push(authority("bb", Slot::Prepared, 3000));
        }
    }
}
