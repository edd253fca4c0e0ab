//! When authorities turn. Pure: what is there and the time come in, what is due goes out.
//!
//! A new authority is prepared, hence published, when half of the active one's life is over; it takes
//! over when one sixth is left; the old one stays published until the last SVID under it has ended.

use std::{collections::HashSet, time::Duration};

use registry::objects::{Authority, AuthorityId, Slot};
use spiffe::Timestamp;

/// The next is prepared at the latest this long before the active authority ends.
const PREPARE_AT_MOST: Duration = Duration::from_secs(30 * 24 * 3600);
/// The next takes over at the latest this long before the active authority ends.
const ACTIVATE_AT_MOST: Duration = Duration::from_secs(7 * 24 * 3600);

/// One step of an authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Make an authority and publish it.
    Prepare,
    /// Let this prepared authority sign from now on; the active one becomes old.
    Activate(AuthorityId),
    /// Publish this authority no more.
    Retire(AuthorityId),
}

/// What is due at `now`, the first step only: after it the situation is another. `keys` are the
/// authorities whose key is here, which after a restart with keys in memory are none.
pub(crate) fn due(authorities: &[&Authority], keys: &HashSet<AuthorityId>, now: Timestamp) -> Option<Step> {
    let usable = |authority: &Authority| keys.contains(&authority.id) && now < authority.not_after;
    let active = authorities.iter().find(|a| a.slot == Slot::Active && usable(a));
    let prepared = authorities.iter().find(|a| a.slot == Slot::Prepared);
    match (active, prepared) {
        // There is one place for a prepared authority, and one that cannot sign must not hold it.
        (_, Some(prepared)) if !usable(prepared) => return Some(Step::Retire(prepared.id.clone())),
        (None, None) => return Some(Step::Prepare),
        (None, Some(prepared)) => return Some(Step::Activate(prepared.id.clone())),
        (Some(active), None) if now >= prepare_at(active) => return Some(Step::Prepare),
        (Some(active), Some(prepared)) if now >= activate_at(active) => {
            return Some(Step::Activate(prepared.id.clone()));
        }
        (Some(_), _) => {}
    }
    let over = authorities.iter().find(|authority| now >= retire_at(authority))?;
    Some(Step::Retire(over.id.clone()))
}

/// When the next step is due after the ones that are due now: nobody needs to look before.
pub(crate) fn next(authorities: &[&Authority]) -> Option<Timestamp> {
    let has_next = authorities.iter().any(|authority| authority.slot == Slot::Prepared);
    let step = |authority: &&Authority| match authority.slot {
        Slot::Active if has_next => activate_at(authority),
        Slot::Active => prepare_at(authority),
        Slot::Prepared => authority.not_after,
        Slot::Old { .. } => retire_at(authority),
    };
    authorities.iter().map(step).min()
}

/// An old authority is done when the last SVID under it has ended.
fn retire_at(authority: &Authority) -> Timestamp {
    match authority.slot {
        Slot::Old { retire_at } => retire_at,
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

    use super::*;

    const LIFE: u64 = 6000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }

    fn authority(id: &str, slot: Slot, from: u64) -> Authority {
        let id = id.parse().unwrap();
        Authority { id, slot, chain: vec![], not_before: at(from), not_after: at(from + LIFE) }
    }

    fn step(authorities: &[Authority], now: u64) -> Option<Step> {
        let all = authorities.iter().map(|authority| authority.id.clone()).collect();
        due(&authorities.iter().collect::<Vec<_>>(), &all, at(now))
    }

    fn id(id: &str) -> AuthorityId {
        id.parse().unwrap()
    }

    #[test]
    fn the_first_authority_is_prepared_and_signs_at_once() {
        assert_eq!(step(&[], 0), Some(Step::Prepare));
        assert_eq!(step(&[authority("aa", Slot::Prepared, 0)], 0), Some(Step::Activate(id("aa"))));
    }

    #[test]
    fn the_next_is_prepared_at_half_life_and_takes_over_with_a_sixth_left() {
        let active = authority("aa", Slot::Active, 0);
        assert_eq!(step(from_ref(&active), 2999), None);
        assert_eq!(step(from_ref(&active), 3000), Some(Step::Prepare));
        let both = [active, authority("bb", Slot::Prepared, 3000)];
        assert_eq!(step(&both, 4999), None);
        assert_eq!(step(&both, 5000), Some(Step::Activate(id("bb"))));
    }

    #[test]
    fn an_old_authority_is_published_until_the_last_svid_under_it_has_ended() {
        let authorities =
            [authority("aa", Slot::Old { retire_at: at(5600) }, 0), authority("bb", Slot::Active, 3000)];
        assert_eq!(step(&authorities, 5599), None);
        assert_eq!(step(&authorities, 5600), Some(Step::Retire(id("aa"))));
    }

    #[test]
    fn an_authority_whose_key_is_lost_gives_way_at_once() {
        let lost = [authority("aa", Slot::Active, 0), authority("bb", Slot::Prepared, 0)];
        let lost: Vec<_> = lost.iter().collect();
        assert_eq!(due(&lost, &HashSet::from([id("bb")]), at(1)), Some(Step::Activate(id("bb"))));
        assert_eq!(due(&lost, &HashSet::new(), at(1)), Some(Step::Retire(id("bb"))));
        assert_eq!(due(&lost[..1], &HashSet::new(), at(1)), Some(Step::Prepare));
    }

    #[test]
    fn after_a_sleep_over_its_end_an_authority_gives_way() {
        let active = authority("aa", Slot::Active, 0);
        assert_eq!(step(from_ref(&active), LIFE), Some(Step::Prepare));
        let both = [active, authority("bb", Slot::Prepared, 3000)];
        assert_eq!(step(&both, LIFE + 1), Some(Step::Activate(id("bb"))));
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
