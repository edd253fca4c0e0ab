//! What is at hand, and what is due, as time goes on.

use proptest::prelude::*;

use super::*;
use crate::testing::{at, entry};

fn audiences(name: &str) -> Audiences {
    Audiences::new([name]).unwrap()
}

fn key(entry: &str, audience: &str) -> Key {
    Key { entry: entry.parse().unwrap(), audiences: audiences(audience) }
}

/// A token signed by `kid`, for so many seconds of life.
fn token(kid: &str, from: i64, until: i64) -> Token {
    let validity = Validity { from: at(from), until: at(until) };
    Token { text: format!("{kid}@{from}").into(), kid: kid.to_owned(), validity }
}

fn cache() -> Cache {
    Cache::new(Seed(7), 100)
}

fn due(cache: &mut Cache, now: i64) -> Vec<Key> {
    cache.take_due(at(now)).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn a_token_that_is_asked_for_is_renewed_at_half_of_its_life_and_served_meanwhile() {
    let (mut cache, e) = (cache(), entry("e", "/a", &[]));
    assert_eq!(cache.ask(at(0), &e, &audiences("x")), AtHand::Nothing);
    cache.hold(at(0), key("e", "x"), &e, token("k", 0, 300));
    assert_eq!(cache.ask(at(1), &e, &audiences("x")), AtHand::Good("k@0".into()));
    assert_eq!(cache.ask(at(1), &e, &audiences("y")), AtHand::Nothing);
    assert!(due(&mut cache, 130).is_empty());
    assert_eq!(due(&mut cache, 170), [key("e", "x")]);
    assert!(due(&mut cache, 171).is_empty(), "it is on the way");
    assert_eq!(cache.ask(at(171), &e, &audiences("x")), AtHand::Good("k@0".into()));
    cache.hold(at(172), key("e", "x"), &e, token("k", 172, 472));
    assert_eq!(cache.ask(at(172), &e, &audiences("x")), AtHand::Good("k@172".into()));
}

#[test]
fn a_token_that_nobody_asks_for_again_is_not_renewed_and_one_that_is_old_then_is_replaced_first() {
    let (mut cache, e) = (cache(), entry("e", "/a", &[]));
    cache.hold(at(0), key("e", "x"), &e, token("k", 0, 300));
    assert!(due(&mut cache, 170).is_empty());
    assert_eq!(cache.ask(at(200), &e, &audiences("x")), AtHand::Stale("k@0".into()));
    assert!(due(&mut cache, 300).is_empty());
    assert_eq!((cache.ask(at(300), &e, &audiences("x")), cache.len()), (AtHand::Nothing, 0));
}

#[test]
fn what_cannot_be_renewed_is_served_until_it_ends_and_tried_again() {
    let (mut cache, e) = (cache(), entry("e", "/a", &[]));
    cache.hold(at(0), key("e", "x"), &e, token("k", 0, 300));
    cache.ask(at(1), &e, &audiences("x"));
    let mut tries = 0;
    for now in 135..300 {
        for key in due(&mut cache, now) {
            tries += 1;
            cache.fail(at(now), &key);
        }
        assert!(matches!(cache.ask(at(now), &e, &audiences("x")), AtHand::Good(_) | AtHand::Stale(_)));
    }
    assert!((6..40).contains(&tries), "{tries}");
    // The server is back: nobody waits for the rest of a pause.
    cache.fail(at(298), &key("e", "x"));
    cache.hurry(at(299));
    assert_eq!(due(&mut cache, 299), [key("e", "x")]);
    cache.fail(at(299), &key("e", "x"));
    assert_eq!(cache.ask(at(300), &e, &audiences("x")), AtHand::Nothing, "what has ended is not served");
}

#[test]
fn an_entry_that_changes_or_goes_takes_its_tokens_with_it() {
    let (mut cache, e) = (cache(), entry("e", "/a", &[]));
    let other = entry("e", "/b", &[]);
    let mut hinted = Entry::clone(&e);
    hinted.hint = "hint".to_owned();
    let mut shorter = Entry::clone(&e);
    shorter.jwt_svid_ttl = 60;
    let hold = |cache: &mut Cache| cache.hold(at(0), key("e", "x"), &e, token("k", 0, 300));
    hold(&mut cache);
    // Also where the change has not been followed yet.
    assert_eq!(cache.ask(at(1), &other, &audiences("x")), AtHand::Nothing);
    assert_eq!(cache.ask(at(1), &Arc::new(shorter.clone()), &audiences("x")), AtHand::Nothing);
    assert_eq!(cache.ask(at(1), &Arc::new(hinted.clone()), &audiences("x")), AtHand::Good("k@0".into()));
    cache.follow(&e.id, Some(&hinted));
    assert_eq!(cache.len(), 1, "a hint is not in a token");
    for now_is in [Some(&*other), Some(&shorter), None] {
        hold(&mut cache);
        cache.follow(&e.id, now_is);
        assert_eq!((cache.len(), cache.next()), (0, None));
    }
}

#[test]
fn tokens_of_a_tainted_key_are_renewed_at_once_and_those_of_a_revoked_one_are_gone() {
    let (mut cache, e) = (cache(), entry("e", "/a", &[]));
    for (audience, kid) in [("t", "tainted"), ("r", "revoked"), ("g", "good")] {
        cache.hold(at(0), key("e", audience), &e, token(kid, 0, 300));
    }
    cache.distrust(at(5), &["tainted".to_owned()].into(), &["tainted", "good"].into());
    assert_eq!(cache.ask(at(5), &e, &audiences("r")), AtHand::Nothing);
    // Whoever asks before the new one is there would rather have the new one.
    assert_eq!(cache.ask(at(5), &e, &audiences("t")), AtHand::Stale("tainted@0".into()));
    assert_eq!(due(&mut cache, 5), [key("e", "t")], "nobody needs to have asked for it");
    assert_eq!(cache.ask(at(5), &e, &audiences("g")), AtHand::Good("good@0".into()));
}

#[test]
fn what_ends_with_its_entry_is_served_to_the_end_and_not_renewed() {
    let mut e = Entry::clone(&entry("e", "/a", &[]));
    e.expires_at = Some(at(100));
    let (mut cache, e) = (cache(), Arc::new(e));
    cache.hold(at(0), key("e", "x"), &e, token("k", 0, 100));
    assert_eq!(cache.ask(at(99), &e, &audiences("x")), AtHand::Good("k@0".into()));
    assert!(due(&mut cache, 99).is_empty());
}

#[test]
fn a_flood_of_audiences_takes_room_from_its_own_entry_first() {
    let (mut cache, quiet, flood) = (cache(), entry("quiet", "/a", &[]), entry("flood", "/b", &[]));
    cache.hold(at(0), key("quiet", "x"), &quiet, token("k", 0, 300));
    for n in 0..1000 {
        cache.hold(at(1), key("flood", &n.to_string()), &flood, token("k", 1, 300));
        assert!(cache.len() <= 100);
        // The one that is asked for again and again stays.
        assert_eq!(cache.ask(at(1), &flood, &audiences("0")), AtHand::Good("k@1".into()));
    }
    assert_eq!(cache.ask(at(1), &quiet, &audiences("x")), AtHand::Good("k@0".into()));
    assert_eq!(cache.ask(at(1), &flood, &audiences("999")), AtHand::Good("k@1".into()));
}

proptest! {
    /// Whatever happens, nothing is served that has ended, is of a key that is not trusted, or was made
    /// for another entry; and what is kept, counted and waited for agree.
    #[test]
    fn nothing_is_served_that_must_not_be(steps in proptest::collection::vec((0..7_u8, 0..3_u8, 0..3_u8, 1..40_i64), 1..80)) {
        let mut cache = Cache::new(Seed(1), 4);
        let (mut now, mut trusted) = (0, 3_u8);
        for (step, n, audience, span) in steps {
            let e = entry(&format!("e{n}"), &format!("/{}", n % 2), &[]);
            let k = key(&format!("e{n}"), &audience.to_string());
            match step {
                0 | 1 => if audience < trusted {
                    cache.hold(at(now), k, &e, token(&audience.to_string(), now, now + span));
                },
                2 => cache.fail(at(now), &k),
                3 => now += span,
                4 => { due(&mut cache, now); }
                5 => cache.follow(&e.id, (span > 20).then_some(&*e)),
                _ => {
                    trusted = audience;
                    let kids: Vec<_> = (0..trusted).map(|kid| kid.to_string()).collect();
                    cache.distrust(at(now), &BTreeSet::new(), &kids.iter().map(String::as_str).collect());
                }
            }
            for n in 0..3 {
                for audience in 0..3 {
                    let e = entry(&format!("e{n}"), &format!("/{}", n % 2), &[]);
                    let asked = cache.ask(at(now), &e, &audiences(&audience.to_string()));
                    if let AtHand::Good(_) | AtHand::Stale(_) = asked {
                        prop_assert!(audience < trusted);
                        let slot = cache.slot(&key(&format!("e{n}"), &audience.to_string())).unwrap();
                        prop_assert!(at(now) < slot.token.validity.until);
                    }
                }
            }
            let kept: usize = cache.entries.values().map(HashMap::len).sum();
            prop_assert_eq!((kept, cache.count, cache.alarms.len()), (cache.count, kept, kept));
            prop_assert!(kept <= 4);
        }
    }
}
